# Copyright (c) MMMixPro contributors.
from torch import Tensor


class LabelWeights(tuple[Tensor, Tensor]):
    """``(w_i, w_j)``, as every label policy returns them, and what attention had to do with it.

    Args:
        w_i: ``(N,)`` weight of image ``i``'s own label.
        w_j: ``(N,)`` weight of its partner's label.
        lam_attn: ``(N,)`` share of the class attention on image ``i``; None where it has no say.
        alpha: ``(N,)`` how far attention is trusted (Eq. 8 of MixPro); None where there is no such factor.
    """

    lam_attn: Tensor | None
    alpha: Tensor | None

    def __new__(
        cls, w_i: Tensor, w_j: Tensor, lam_attn: Tensor | None = None, alpha: Tensor | None = None
    ) -> 'LabelWeights':
        weights = super().__new__(cls, (w_i, w_j))
        weights.lam_attn, weights.alpha = lam_attn, alpha
        return weights
