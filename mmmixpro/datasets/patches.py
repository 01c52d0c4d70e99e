# Copyright (c) MMMixPro contributors.
"""Images of which patches are hidden: set to 0 in pixel space, before any normalisation (Fig. 3 of MixPro).

What `Intriguing Properties of Vision Transformers <https://arxiv.org/abs/2105.10497>`_ calls patch dropping. Each image
has its patches in an order, ranks ``(N, P)``; what is hidden follows from the ranks and a ratio alone, so that what is
hidden at a ratio is hidden at any greater one too. The transforms of :mod:`~mmmixpro.datasets.occlusion` and
:class:`~mmmixpro.engine.OcclusionTestLoop` share these functions.

Legend: ``N`` images of ``H x W`` pixels, a grid of ``gh x gw`` patches, ``P = gh * gw``, counted row by row.

Other than in the released code, a ratio is a share of the patches for salient ones too (there: of the attention), and
each image has patches of its own at random (there: one draw for a batch).
"""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Grid = tuple[int, int]


def exact(ratio: float | Fraction) -> Fraction:
    """A ratio as it is written: 0.35 is 35/100, which no float is.

    Raises:
        ValueError: If it is not in [0, 1].
    """
    share = Fraction(str(ratio))
    if not 0 <= share <= 1:
        raise ValueError(f'Expected a share of the patches in [0, 1], got {ratio}. 0.3 hides 30 % of them.')
    return share


def num_hidden(ratio: float | Fraction, patches: int) -> int:
    """How many of the patches a ratio in [0, 1] means, halves rounded up."""
    return math.floor(exact(ratio) * patches + Fraction(1, 2))


def hide_first(ranks: Tensor, ratio: float | Fraction) -> Tensor:
    """Hide the :func:`num_hidden` patches that come first.

    Args:
        ranks: ``(N, P)``, the place of each patch in its image's order.
        ratio: In [0, 1].

    Returns:
        Tensor: ``(N, P)`` bool, True for what is hidden.
    """
    return ranks < num_hidden(ratio, ranks.size(1))


def hide_last(ranks: Tensor, ratio: float | Fraction) -> Tensor:
    """Hide what :func:`hide_first` shows at ``1 - ratio``: the patches that come last, half a patch rounded down."""
    return ~hide_first(ranks, 1 - exact(ratio))


class Kind(NamedTuple):
    """A way to hide patches.

    Attributes:
        salient: Whether patches are ordered by salience, else at random.
        hide: What is hidden of them.
    """

    salient: bool
    hide: Callable[[Tensor, float | Fraction], Tensor]


KINDS = {
    'random': Kind(False, hide_first),
    'salient': Kind(True, hide_first),
    'non-salient': Kind(True, hide_last),
}


def as_grid(grid: int | tuple[int, int]) -> Grid:
    """Rows and columns of patches; an integer means as many of both.

    Raises:
        ValueError: If they are not two positive integers.
    """
    sides = (grid, grid) if isinstance(grid, int) else tuple(grid)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f'Expected a grid as one positive integer or (rows, columns), got {grid!r}.')
    return sides


def random_ranks(indices: Iterable[int], patches: int, seed: int) -> Tensor:
    """A random order of the patches of each image, that depends on nothing but its index and the seed.

    Args:
        indices: The N images, as the dataset counts them (``sample_idx``).
        patches: P.
        seed: Not negative.

    Returns:
        Tensor: ``(N, P)`` int64.
    """
    return torch.from_numpy(np.stack([np.random.default_rng((seed, i)).permutation(patches) for i in indices]))


def salient_ranks(saliency: Tensor, grid: Grid, size: tuple[int, int]) -> Tensor:
    """The order of patches from the most salient to the least; of equal ones, the first in the image comes first.

    The salience of a patch is the mean of the map over its area.

    Args:
        saliency: ``(N, h, w)``, any grid over the whole image.
        grid: Rows and columns of patches.
        size: ``(H, W)`` of the images in pixels.

    Returns:
        Tensor: ``(N, P)`` int64.

    Raises:
        ValueError: If the map has values that cannot be ordered.
    """
    if not saliency.isfinite().all():
        raise ValueError('Expected a map of finite numbers to tell salient patches, found NaN or infinity in it.')
    rows, columns = (
        _overlaps(side, count, cells, saliency.device)
        for side, count, cells in zip(size, grid, saliency.shape[1:], strict=True)
    )
    # Sums of integers times the map are exact in float64: equal values stay equal.
    sums = rows @ saliency.double() @ columns.T
    means = sums / (rows.sum(1)[:, None] * columns.sum(1))
    return means.flatten(1).sort(dim=1, descending=True, stable=True).indices.argsort(1)


def _overlaps(side: int, count: int, cells: int, device: torch.device) -> Tensor:
    """``(count, cells)`` float64: what each patch has of each cell of a map along one side, in ``1 / cells`` px."""
    edges = torch.arange(count + 1, device=device) * side // count * cells
    bounds = torch.arange(cells + 1, device=device) * side
    overlap = torch.minimum(edges[1:, None], bounds[1:]) - torch.maximum(edges[:-1, None], bounds[:-1])
    return overlap.clamp(min=0).double()


def occlude(images: Tensor, hidden: Tensor, grid: Grid) -> Tensor:
    """Set patches to 0, leaving the input as it is.

    Patch ``i`` of ``g`` along a side of ``s`` px begins at pixel ``floor(i * s / g)``, whether ``g`` divides ``s`` or
    not.

    Args:
        images: ``(N, C, H, W)``, any dtype.
        hidden: ``(N, P)`` bool.
        grid: Rows and columns of patches.

    Returns:
        Tensor: ``(N, C, H, W)``, newly allocated.

    Raises:
        ValueError: If there are more patches along a side than pixels.
    """
    size = images.shape[-2:]
    if any(count > side for count, side in zip(grid, size, strict=True)):
        raise ValueError(f'A grid of {grid[0]} x {grid[1]} patches does not fit into {size[0]} x {size[1]} px.')
    rows, columns = (
        ((torch.arange(side, device=hidden.device) + 1) * count - 1) // side
        for side, count in zip(size, grid, strict=True)
    )
    pixels = hidden.unflatten(1, grid)[:, rows][:, :, columns]
    return images.masked_fill(pixels[:, None], 0)
