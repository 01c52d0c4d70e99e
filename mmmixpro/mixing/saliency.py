# Copyright (c) MMMixPro contributors.
"""Where an image is conspicuous, without a network: the spectral residual, on the images' own device."""

import torch
from torch import Tensor
from torch.nn import functional as F

SIZE = 64  # longer side of the small images, in pixels
SIGMA = 2.5  # of the blur, in pixels of the small images
NOISE = 1e-6  # of the largest amplitude: below it a spectrum is rounding error


@torch.no_grad()
def spectral_residual(images: Tensor) -> Tensor:
    r"""Saliency of images by what is unexpected in their spectrum.

    `Saliency Detection: A Spectral Residual Approach <https://doi.org/10.1109/CVPR.2007.383267>`_ (CVPR 2007):
    :math:`S = g * |F^{-1}[\exp(R + iP)]|^2`, :math:`R = \log A - h * \log A`, where :math:`A` and :math:`P` are
    amplitude and phase of the grey image, :math:`h` is a 3 x 3 mean and :math:`g` a Gaussian. Sizes, borders and
    blur are those of the authors' published script.

    Deviations: grey is the mean of the channels, so that their order and number do not matter, and images smaller
    than 64 px stay as they are. Amplitudes far below the largest are rounding error, which the logarithm would
    raise to the rank of all others: they fade out instead.

    Args:
        images: ``(N, C, H, W)``, any float dtype, normalised or not: scaling an image changes nothing.

    Returns:
        Tensor: ``(N, h, w)`` float32, at least 0, the longer side 64 px or that of the images if less.
    """
    # Matrix products would lose precision, and logarithms range.
    with torch.autocast(images.device.type, enabled=False):
        scale = min(1.0, SIZE / max(images.shape[-2:]))
        height, width = (max(1, round(side * scale)) for side in images.shape[-2:])
        grey = F.adaptive_avg_pool2d(images.float().mean(1), (height, width))
        spectrum = torch.fft.fft2(grey)
        amplitude = spectrum.abs()
        amplitude = amplitude + (NOISE * amplitude.amax((1, 2), keepdim=True)).clamp(min=1e-12)
        log = amplitude.log()
        residual = log - F.avg_pool2d(F.pad(log, (1, 1, 1, 1), mode='replicate'), 3, stride=1)
        saliency = torch.fft.ifft2(spectrum / amplitude * residual.exp()).abs().square()
        return _blur(height, images.device) @ saliency @ _blur(width, images.device)


def _blur(side: int, device: torch.device) -> Tensor:
    """``(side, side)`` Gaussian of each pixel, unnormalised; beyond the border all is 0."""
    pixels = torch.arange(side, dtype=torch.float32, device=device)
    return torch.exp(-0.5 * ((pixels[:, None] - pixels) / SIGMA) ** 2)


def salient_pixels(images: Tensor) -> tuple[Tensor, Tensor]:
    """The most salient pixel of each image, in the images' own resolution.

    Args:
        images: ``(N, C, H, W)``. One without any structure, a black one for example, gives its top left corner.

    Returns:
        tuple[Tensor, Tensor]: ``(N,)`` int64 rows and columns.
    """
    saliency = spectral_residual(images)
    height, width = saliency.shape[1:]
    peak = saliency.flatten(1).argmax(1)
    # The middle of what the pixel of the small image stands for.
    rows = (2 * (peak // width) + 1) * images.size(2) // (2 * height)
    columns = (2 * (peak % width) + 1) * images.size(3) // (2 * width)
    return rows, columns
