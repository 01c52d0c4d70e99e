# Copyright (c) MMMixPro contributors.
"""Image space: masks, mixed images, shares of the area (Eq. 5 to 7 of MixPro)."""

import math

import numpy as np


def expand_mask(cells, cell, height, width):
    """``(H, W)`` pixel mask of ``(gh, gw)`` cells; the border crops the last row and column."""
    mask = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            mask[y, x] = cells[y // cell][x // cell]
    return mask


def mix_images(images, partner, masks):
    """``M * x_i + (1 - M) * x_j`` (Eq. 7) pixel by pixel; images ``(N, C, H, W)``, masks ``(N, H, W)``."""
    mixed = np.zeros_like(images)
    num, channels, height, width = images.shape
    for i in range(num):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    source = i if masks[i][y][x] else partner[i]
                    mixed[i, c, y, x] = images[source, c, y, x]
    return mixed


def find_sources(mixed, originals):
    """``(N, H, W)`` index of the original that each pixel of each mixed image was taken from.

    Every pixel of the originals must differ from the same pixel of all others.
    """
    num, _, height, width = mixed.shape
    sources = np.full((num, height, width), -1)
    for j in range(num):
        for i in range(num):
            taken = (mixed[i] == originals[j]).all(axis=0)
            if (sources[i][taken] >= 0).any():
                raise AssertionError('two originals share a pixel: the source cannot be told')
            sources[i][taken] = j
    if (sources < 0).any():
        raise AssertionError('a mixed image has a pixel that no original has')
    return sources


def partner_and_mask(sources, i):
    """Partner of image ``i`` and its ``(H, W)`` mask, told from ``find_sources``.

    Where nothing of a partner is seen, the image itself stands for it: its weight is zero.
    """
    others = sorted(set(sources[i].flatten().tolist()) - {i})
    if len(others) > 1:
        raise AssertionError(f'image {i} shows more than one other image: {others}')
    return (others[0] if others else i), (sources[i] == i).astype(np.float64)


def lambda_area(mask):
    """``sum(M) / (W * H)``, below Eq. 7."""
    height, width = mask.shape
    total = 0.0
    for y in range(height):
        for x in range(width):
            total += mask[y, x]
    return total / (width * height)


def down_nearest(mask, h, w):
    """Nearest-neighbour interpolation to ``(h, w)`` (Eq. 5): the first pixel of each token."""
    height, width = mask.shape
    out = np.zeros((h, w))
    for a in range(h):
        for b in range(w):
            out[a, b] = mask[a * height // h, b * width // w]
    return out


def down_area(mask, h, w):
    """Mean of the mask over the area of each token, which may cut through pixels."""
    height, width = mask.shape
    out = np.zeros((h, w))
    for a in range(h):
        for b in range(w):
            top, bottom = a * height / h, (a + 1) * height / h
            left, right = b * width / w, (b + 1) * width / w
            covered = area = 0.0
            for y in range(math.floor(top), min(math.ceil(bottom), height)):
                for x in range(math.floor(left), min(math.ceil(right), width)):
                    part = (min(bottom, y + 1) - max(top, y)) * (min(right, x + 1) - max(left, x))
                    area += part
                    covered += part * mask[y, x]
            out[a, b] = covered / area
    return out


def mix_labels(labels_i, labels_j, weight_i, weight_j):
    """``lam * y_i + (1 - lam) * y_j`` of one image."""
    return np.array([weight_i * a + weight_j * b for a, b in zip(labels_i, labels_j, strict=True)])
