# Copyright (c) MMMixPro contributors.
"""How many images of a batch share one draw: timm's modes of Mixup and CutMix."""

import numpy as np
import torch
from torch import Tensor

from .masks import flipped_partners, random_partners


class BatchMode:
    """One draw for the whole batch; partners are a random permutation."""

    def draws(self, num: int) -> int:
        """How many draws ``num`` images take."""
        return 1

    def share(self, drawn: np.ndarray, num: int) -> np.ndarray:
        """Hand ``(draws, ...)`` to the images: ``(num, ...)``, or ``(1, ...)`` for all of them."""
        return drawn

    def partners(self, num: int, device: torch.device) -> Tensor:
        """``(num,)`` int64, who is mixed into whom."""
        return random_partners(num, device)


class ElemMode(BatchMode):
    """A draw for each image."""

    def draws(self, num: int) -> int:
        return num


class PairMode(BatchMode):
    """A draw for images ``i`` and ``num - 1 - i``, who are each other's partners."""

    def draws(self, num: int) -> int:
        return (num + 1) // 2

    def share(self, drawn: np.ndarray, num: int) -> np.ndarray:
        return np.concatenate([drawn, drawn[: num // 2][::-1]])

    def partners(self, num: int, device: torch.device) -> Tensor:
        return flipped_partners(num, device)


MODES = dict(batch=BatchMode(), pair=PairMode(), elem=ElemMode())


class BetaLam:
    """Draws how much of each image is left, from Beta(alpha, alpha).

    Args:
        alpha: Parameter of the distribution; positive.
        mode: ``'batch'`` draws one for the batch, ``'pair'`` one for images ``i`` and ``N - 1 - i``, who
            are then each other's partners, ``'elem'`` one for each image.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, alpha: float, mode: str = 'batch'):
        if not isinstance(alpha, (int, float)) or not alpha > 0:
            raise ValueError(f'alpha of Beta(alpha, alpha) must be a positive number, got {alpha!r}.')
        if mode not in MODES:
            raise ValueError(f'mode must be one of {list(MODES)}, got {mode!r}.')
        self.alpha = alpha
        self.mode = MODES[mode]

    def __call__(self, num: int) -> np.ndarray:
        """``(draws,)`` float64 in [0, 1], to be shared among ``num`` images by ``mode``."""
        return np.random.beta(self.alpha, self.alpha, size=self.mode.draws(num))
