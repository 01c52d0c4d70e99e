# Copyright (c) MMMixPro contributors.
"""Drawing the masks and partners that mixers share, on the images' own device."""

import math

import numpy as np
import torch
from torch import Tensor


def random_partners(num: int, device: torch.device) -> Tensor:
    """A random permutation of the batch; ``(N,)`` int64."""
    return torch.randperm(num, device=device)


def flipped_partners(num: int, device: torch.device) -> Tensor:
    """The batch in reverse order, ``x.flip(0)`` of MixPro's Algorithm 1; ``(N,)`` int64."""
    return torch.arange(num - 1, -1, -1, device=device)


def random_cells(num: int, grid: tuple[int, int], keep: int | Tensor, device: torch.device) -> Tensor:
    """Masks with ``keep`` cells True, every set of cells equally likely and drawn per image.

    Args:
        num: Number of masks ``N``.
        grid: ``(gh, gw)`` cells.
        keep: Cells to keep, one for all or ``(N, 1)``.

    Returns:
        Tensor: ``(N, gh, gw)`` bool.
    """
    cells = math.prod(grid)
    # A random permutation per image: where it is below `keep` is a uniform draw without replacement.
    order = torch.rand(num, cells, device=device).argsort(1)
    return (order < keep).view(num, *grid)


def half_side(side: int, lam: np.ndarray) -> np.ndarray:
    """Half of what CutMix's boxes of area ``1 - lam`` take of a side of the image, in pixels; int64."""
    return (side * np.sqrt(1 - lam)).astype(np.int64) // 2


def random_boxes(size: tuple[int, int], lam: np.ndarray) -> np.ndarray:
    """CutMix's boxes of area ``1 - lam``, their centres uniform, clipped by the image.

    Args:
        size: ``(H, W)`` of the image in pixels.
        lam: ``(n,)`` in [0, 1].

    Returns:
        np.ndarray: ``(n, 4)`` int64, ``(top, bottom, left, right)`` in pixels.
    """
    bounds: list[np.ndarray] = []
    for side in size:
        half = half_side(side, lam)
        centre = np.random.randint(side, size=len(lam))
        bounds += [np.maximum(centre - half, 0), np.minimum(centre + half, side)]
    return np.stack(bounds, 1)
