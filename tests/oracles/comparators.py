# Copyright (c) MMMixPro contributors.
"""Masks of the older comparators: GridMix, SaliencyMix on the spectral residual, Attentive CutMix."""

import math

import numpy as np


def grid_cells(draws, lam):
    """GridMix: a cell stays where its own uniform draw says so."""
    return [[draw < lam for draw in row] for row in draws]


def average(plane, h, w):
    """Mean of ``(H, W)`` over ``h x w`` windows of whole pixels, which overlap where they do not divide it."""
    height, width = plane.shape
    out = np.zeros((h, w))
    for a in range(h):
        for b in range(w):
            rows = slice(a * height // h, math.ceil((a + 1) * height / h))
            columns = slice(b * width // w, math.ceil((b + 1) * width / w))
            out[a, b] = plane[rows, columns].mean()
    return out


def attentive_cells(maps, k, gh, gw):
    """Attentive CutMix: False in the ``k`` cells where the mean of the channels of ``(C, h, w)`` is highest."""
    attention = average(np.float64(maps).mean(axis=0), gh, gw)
    ranked = sorted(((attention[a, b], a, b) for a in range(gh) for b in range(gw)), reverse=True)
    cells = np.ones((gh, gw), dtype=bool)
    for _, a, b in ranked[:k]:
        cells[a, b] = False
    return cells


def spectral_residual(image, longest=64, sigma=2.5, noise=1e-6):
    """Saliency of ``(C, H, W)`` by Hou and Zhang (2007); amplitudes of rounding errors fade out."""
    height, width = image.shape[1:]
    scale = min(1, longest / max(height, width))
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    spectrum = np.fft.fft2(average(np.float64(image).mean(axis=0), h, w))
    floor = max(noise * np.abs(spectrum).max(), 1e-12)
    log = np.log(np.abs(spectrum) + floor)
    residual = np.zeros((h, w))
    for y in range(h):
        for x in range(w):
            around = [
                log[min(max(y + dy, 0), h - 1), min(max(x + dx, 0), w - 1)] for dy in (-1, 0, 1) for dx in (-1, 0, 1)
            ]
            residual[y, x] = log[y, x] - sum(around) / 9
    fade = np.abs(spectrum) / (np.abs(spectrum) + floor)
    saliency = np.abs(np.fft.ifft2(fade * np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    rows, columns = np.mgrid[:h, :w]
    blurred = np.zeros((h, w))
    for y in range(h):
        for x in range(w):
            blurred[y, x] = (np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2)) * saliency).sum()
    return blurred


def salient_pixel(image):
    """Row and column of the peak of the saliency, in pixels of ``(C, H, W)``."""
    saliency = spectral_residual(image)
    peak = np.unravel_index(saliency.argmax(), saliency.shape)
    return [
        int((at + 0.5) * side / small) for at, side, small in zip(peak, image.shape[1:], saliency.shape, strict=True)
    ]


def box_mask(centre, lam, height, width):
    """0 in CutMix's box of area ``1 - lam`` around ``centre``, clipped by the border, 1 elsewhere."""
    bounds = []
    for at, side in zip(centre, (height, width), strict=True):
        half = int(side * math.sqrt(1 - lam)) // 2
        bounds.append((max(at - half, 0), min(at + half, side)))
    (top, bottom), (left, right) = bounds
    mask = np.ones((height, width))
    for y in range(top, bottom):
        for x in range(left, right):
            mask[y, x] = 0
    return mask
