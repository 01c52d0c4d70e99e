# Copyright (c) MMMixPro contributors.
import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmmixpro.structures import MixPlan

from .attention import attention_share
from .weights import LabelWeights


@MODELS.register_module()
class ProgressiveAttentionLabels(nn.Module):
    r"""Trust attention as far as the model fits the image: Progressive Attention Labeling (PAL).

    Per image (Eq. 8 and 9 of `MixPro <https://arxiv.org/abs/2304.12043>`_):

    .. math::
        \alpha = \cos(softmax(logits), \tilde y), \quad
        \lambda = \alpha \lambda_{attn} + (1 - \alpha) \lambda_{area}

    where :math:`\tilde y` is the label mixed by area (Eq. 7).

    Args:
        detach_confidence: Keep gradients from flowing through :math:`\alpha`, a step the paper does
            not mention; the released code lets the loss lower itself by moving its own target.
        label_smooth_val: Smoothing of :math:`\tilde y` before the cosine, in [0, 1). The paper has
            none, the released code 0.1.
        nearest: Bring the mask to the token grid by nearest-neighbour interpolation (Eq. 5) rather
            than by exact area; equal for masks of whole tokens.

    Raises:
        ValueError: If ``label_smooth_val`` is out of its range.
    """

    needs_attention = True

    def __init__(self, detach_confidence: bool = True, label_smooth_val: float = 0.0, nearest: bool = False):
        super().__init__()
        if not 0 <= label_smooth_val < 1:
            raise ValueError(f'label_smooth_val must lie in [0, 1), got {label_smooth_val}.')
        self.detach_confidence = detach_confidence
        self.label_smooth_val = label_smooth_val
        self.nearest = nearest

    def forward(self, plan: MixPlan, attention: Tensor, logits: Tensor, scores: Tensor) -> LabelWeights:
        """See :meth:`AreaLabels.forward`; attention is required."""
        lam_attn = attention_share(plan, attention, self.nearest)
        alpha = self.confidence(plan, logits, scores)
        lam = torch.lerp(plan.lam, lam_attn, alpha)
        return LabelWeights(lam, 1 - lam, lam_attn, alpha)

    def confidence(self, plan: MixPlan, logits: Tensor, scores: Tensor) -> Tensor:
        """The progressive factor, ``(N,)`` in [0, 1]."""
        probs = (logits.detach() if self.detach_confidence else logits).softmax(1)
        target = plan.mix_scores(scores, plan.lam, 1 - plan.lam)
        if self.label_smooth_val:
            target = (1 - self.label_smooth_val) * target + self.label_smooth_val / target.size(1)
        return F.cosine_similarity(probs, target, dim=1)
