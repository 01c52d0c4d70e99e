# Copyright (c) MMMixPro contributors.
import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmmixpro.structures import MixPlan

from .progressive import ProgressiveAttentionLabels


@MODELS.register_module()
class LearnableAttentionLabels(ProgressiveAttentionLabels):
    r"""Trust attention as far as the loss would have it: :math:`\alpha` is one learnable number.

    Table 10 of `MixPro <https://arxiv.org/abs/2304.12043>`_, which says no more of it. Here it is
    the sigmoid of a parameter that starts at zero, so that :math:`\alpha` starts at a half and stays
    in (0, 1).

    Args:
        nearest: See :class:`ProgressiveAttentionLabels`.
    """

    def __init__(self, nearest: bool = False):
        super().__init__(nearest=nearest)
        self.factor = nn.Parameter(torch.zeros(()))

    def confidence(self, plan: MixPlan, logits: Tensor, scores: Tensor) -> Tensor:
        """The progressive factor, ``(N,)`` in (0, 1), the same for all images."""
        return self.factor.sigmoid().expand(len(logits))
