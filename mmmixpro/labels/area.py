# Copyright (c) MMMixPro contributors.
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmmixpro.structures import MixPlan


@MODELS.register_module()
class AreaLabels(nn.Module):
    """Weigh each label by its image's share of the pixels, as CutMix does (Eq. 7 of MixPro).

    Every label policy has this call; one that needs no attention is given None for it.
    """

    needs_attention = False

    def forward(self, plan: MixPlan, attention: Tensor | None, logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Weigh the two labels of each mixed image.

        Args:
            plan: What was mixed.
            attention: ``(N, h, w)`` class attention over the tokens of the mixed images, sums to 1.
            logits: ``(N, C)`` float32, of the mixed images.
            scores: ``(N, C)`` labels of the images before mixing, unsmoothed.

        Returns:
            tuple[Tensor, Tensor]: ``(N,)`` float32 weights of the image's own label and of its
            partner's; a :class:`LabelWeights` where more can be told.
        """
        return plan.lam, 1 - plan.lam
