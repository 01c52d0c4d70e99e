# Copyright (c) MMMixPro contributors.
import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmmixpro.structures import MixPlan

from .weights import LabelWeights


def attention_share(plan: MixPlan, attention: Tensor, nearest: bool) -> Tensor:
    """Share of the class attention that falls on image ``i``, ``lam_attn`` of Eq. 5 of MixPro.

    Args:
        plan: What was mixed.
        attention: ``(N, h, w)`` over the tokens of the mixed images, sums to 1.
        nearest: How the mask is brought to the token grid, see :meth:`MixPlan.coverage`.

    Returns:
        Tensor: ``(N,)`` float32 in [0, 1].
    """
    _, h, w = attention.shape
    return (attention * plan.coverage(h, w, nearest)).sum((1, 2))


@MODELS.register_module()
class AttentionLabels(nn.Module):
    """Weigh each label by area and by where the model looks, as TransMix does.

    ``lam = area_weight * lam_area + (1 - area_weight) * lam_attn``, per image.
    `TransMix <https://arxiv.org/abs/2111.09833>`_, Eq. 5 and its released code, where both count
    half.

    Args:
        area_weight: Weight in [0, 1] of the area; 0 leaves attention alone.
        nearest: Bring the mask to the token grid by nearest-neighbour interpolation, as TransMix
            does, rather than by exact area.

    Raises:
        ValueError: If ``area_weight`` is out of its range.
    """

    needs_attention = True

    def __init__(self, area_weight: float = 0.5, nearest: bool = True):
        super().__init__()
        if not 0 <= area_weight <= 1:
            raise ValueError(f'area_weight must lie in [0, 1], got {area_weight}.')
        self.area_weight = area_weight
        self.nearest = nearest

    def forward(self, plan: MixPlan, attention: Tensor, logits: Tensor, scores: Tensor) -> LabelWeights:
        """See :meth:`AreaLabels.forward`; attention is required."""
        lam_attn = attention_share(plan, attention, self.nearest)
        lam = torch.lerp(lam_attn, plan.lam, self.area_weight)
        return LabelWeights(lam, 1 - lam, lam_attn)
