# Copyright (c) MMMixPro contributors.
"""What PuzzleMix reads off the images and their gradients, on their own device."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def cell_saliency(gradients: Tensor, cell: int) -> Tensor:
    """How salient each cell is: the mean norm of the gradient there, of sum 1.

    Args:
        gradients: ``(N, C, H, W)`` of the loss with respect to the images.
        cell: Side of a cell in pixels.

    Returns:
        Tensor: ``(N, gh, gw)`` float32; all alike for an image without any gradient, or one that is not finite.
    """
    saliency = F.avg_pool2d(torch.linalg.vector_norm(gradients.float(), dim=1), cell)
    # A model that has diverged must not hang the solvers; its loss tells.
    finite = saliency.isfinite().all((1, 2), keepdim=True)
    saliency = saliency.where(finite, 0) + torch.finfo(torch.float32).tiny
    return saliency / saliency.sum((1, 2), keepdim=True)


def to_colours(images: Tensor, model: Any) -> Tensor:
    """Images as the model sees them, ``(N, C, H, W)``, in units of colours in [0, 1]; not shifted back."""
    preprocessor = model.data_preprocessor
    return images.float() * ((preprocessor.std if preprocessor._enable_normalize else 1) / 255)


def border_terms(colours: Tensor, partner: Tensor, cell: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""How much the borders of cells and those below them show, as terms of a cut.

    :math:`\phi(z_p, z_q)`, the difference of colours where the upper cell shows image ``i`` if :math:`z_p = 1` and
    its partner if 0, and so the lower one, is up to a constant :math:`a z_p + b z_q + c (z_p - z_q)^2`.

    Args:
        colours: ``(N, C, H, W)``.
        partner: ``(N,)`` int64.
        cell: Side of a cell in pixels.

    Returns:
        tuple[Tensor, Tensor, Tensor]: ``(N, gh - 1, gw)`` each: :math:`a`, :math:`b` and :math:`c`.
    """
    upper, lower = colours[:, :, cell - 1 : -1 : cell], colours[:, :, cell::cell]

    def difference(above: Tensor, below: Tensor) -> Tensor:
        return (above - below).abs().mean(1).unflatten(2, (-1, cell)).mean(3)

    own = difference(upper, lower)
    other = own[partner]
    own_above, own_below = difference(upper, lower[partner]), difference(upper[partner], lower)
    first = (own + own_above - own_below - other) / 2
    second = (own + own_below - own_above - other) / 2
    return first, second, (own_above + own_below - own - other) / 2
