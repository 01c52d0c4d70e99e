# Copyright (c) MMMixPro contributors.
from collections.abc import Sequence

from mmpretrain.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ClsTokenNeck(nn.Module):
    """Picks the class token, for backbones that return all tokens, as ``TIMMBackbone`` does with ViTs.

    Raises:
        ValueError: If a feature is not all tokens, ``(N, L, C)``, class token first.
    """

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The class token ``(N, C)`` of each feature ``(N, L, C)``."""
        for feat in feats:
            if feat.ndim != 3:
                raise ValueError(
                    f'ClsTokenNeck expected tokens (N, L, C), got a feature of shape {tuple(feat.shape)}. Remove '
                    'model.neck: this backbone picks what it returns.'
                )
        return tuple(feat[:, 0] for feat in feats)
