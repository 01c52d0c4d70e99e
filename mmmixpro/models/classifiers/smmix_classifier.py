# Copyright (c) MMMixPro contributors.
from typing import Any

import torch
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmmixpro.attention import patch_attention_of
from mmmixpro.mixing.smmix import SMMixPlan
from mmmixpro.structures import MixPlan

from .evaluating import evaluating
from .mix_classifier import MixClassifier


@MODELS.register_module()
class SMMixClassifier(MixClassifier):
    r""":class:`MixClassifier` with the losses of SMMix, around the :class:`~mmmixpro.mixing.SMMix` augment.

    `SMMix <https://arxiv.org/abs/2212.12977>`_, section 3, and its released code:

    .. math::
        L = CE(z, \lambda y_i + (1 - \lambda) y_j) + \tfrac{1}{2} (CE(t_i, y_i) + CE(t_j, y_j))
        + KL(softmax(\lambda \hat z_i + (1 - \lambda) \hat z_j) \,\|\, softmax(z))

    :math:`z` are the logits of the mixed images; :math:`t_i` and :math:`t_j` those of a token head, a
    linear layer, on the mean of the patch tokens that show image :math:`i` and of those that show its
    partner :math:`j`; :math:`\hat z` the logits of the images before mixing, from a first forward
    pass in eval mode and without gradient, which also tells where the model looks. CE is the loss of
    the head, its smoothing included; all weights and the temperature are 1.

    One forward pass more on batches of SMMix, none more on others. For evaluation it is
    ``ImageClassifier``; checkpoints have ``token_head.*`` besides, which nothing but this class
    reads. Other than in the released code, the first pass too runs in the precision of autocast.

    Args:
        backbone: Config of the backbone: one that has a
            :class:`~mmmixpro.attention.PatchAttention` (ViT, PVT; CaiT, XCiT and CASwin, see
            :class:`~mmmixpro.attention.ClassBlock`).
        **kwargs: See :class:`MixClassifier`. ``head`` gives the token head its ``in_channels`` and
            ``num_classes``; a neck would come between the head and the tokens, and is refused, as
            are ``labels`` by attention.

    Raises:
        ValueError: If the backbone has no attention between patches, or if an argument does not fit.
    """

    def __init__(self, backbone: dict | nn.Module | None = None, **kwargs: Any):
        super().__init__(backbone, **kwargs)
        patch_attention_of(self.backbone)
        if self.neck is not None:
            raise ValueError(
                f'The token head of SMMix reads the tokens of the backbone, which {type(self.neck).__name__} would '
                'change for the other head alone. Remove model.neck.'
            )
        if self.labels.needs_attention:
            raise ValueError(
                f'SMMix weighs labels by area, {type(self.labels).__name__} by attention. Remove model.labels, or '
                'take another mixer for them.'
            )
        sizes = [getattr(self.head, name, None) for name in ('num_classes', 'in_channels')]
        if not all(isinstance(size, int) for size in sizes):
            raise ValueError(
                f'The token head of SMMix is as wide as the head, and {type(self.head).__name__} has num_classes and '
                f'in_channels of {sizes}. Use one that has both, such as LinearClsHead or VisionTransformerClsHead.'
            )
        # Its loss is that of the head, its own is not used.
        self.token_head = LinearClsHead(*sizes, init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02))

    @torch.no_grad()
    def motivate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the model says of unmixed images, in eval mode, and where it looks.

        Args:
            images: ``(N, C, H, W)``.

        Returns:
            tuple[Tensor, Tensor]: Logits ``(N, num_classes)`` and ``(N, h, w)``, how much the patches
            look at each patch; float32, no gradient.
        """
        size = (images.size(2), images.size(3))
        with evaluating(self), patch_attention_of(self.backbone).patch_tap(size) as tap:
            logits = self.head(self.extract_feat(images))
        # Older torch keeps the weights that autocast casts here, which have no gradient, for the second pass
        # too (pytorch#112583).
        torch.clear_autocast_cache()
        assert tap.map is not None
        return logits.float(), tap.map

    def _loss(
        self, plan: MixPlan | None, images: Tensor, scores: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        if not isinstance(plan, SMMixPlan):
            # Ranks draw their augments apart, and under DDP each waits for every parameter of the others.
            unused = sum(param.sum() for param in self.token_head.parameters())
            loss, *seen = super()._loss(plan, images, scores, target)
            return loss + 0 * unused, *seen

        feats, tokens = patch_attention_of(self.backbone).with_tokens(images)
        logits = self.head(feats).float()
        parts = torch.stack([plan.mask, ~plan.mask], 1).flatten(2)  # (N, 2, L): of the image, of its partner
        pooled = parts.to(tokens.dtype) @ tokens / parts.sum(2, keepdim=True)
        token_logits = self.token_head((pooled,)).float().flatten(0, 1)

        with torch.autocast(logits.device.type, enabled=False):
            weights = self.labels(plan, None, logits, scores)
            target = plan.mix_scores(scores, *weights)
            token_target = torch.stack([scores, scores[plan.partner]], 1).flatten(0, 1)
            clean_logits = plan.mix_scores(plan.clean_logits, plan.lam, 1 - plan.lam)
            mixed = self.head.loss_module(logits, target, avg_factor=len(logits))
            fine = self.head.loss_module(token_logits, token_target, avg_factor=len(token_logits))
            consistency = F.kl_div(logits.log_softmax(1), clean_logits.softmax(1), reduction='batchmean')
            return mixed + fine + consistency, logits, target, weights
