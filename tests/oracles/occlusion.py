# Copyright (c) MMMixPro contributors.
"""Occlusion (Fig. 3; arXiv 2105.10497): which patches are hidden, and which pixels these are."""

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction


def count(ratio, patches):
    """``ratio`` of the patches as it is written, halves up."""
    return int((Decimal(str(ratio)) * patches).quantize(Decimal(1), ROUND_HALF_UP))


def bounds(index, patches, side):
    """First pixel of a patch, and the one after its last."""
    return index * side // patches, (index + 1) * side // patches


def cell_mean(saliency, a, b, grid, size):
    """Exact mean of a map, spread over the image, on a patch."""
    (top, bottom), (left, right) = bounds(a, grid[0], size[0]), bounds(b, grid[1], size[1])
    total = Fraction(0)
    for i in range(saliency.shape[0]):
        for j in range(saliency.shape[1]):
            step = Fraction(size[0], saliency.shape[0]), Fraction(size[1], saliency.shape[1])
            tall = min(Fraction(bottom), (i + 1) * step[0]) - max(Fraction(top), i * step[0])
            wide = min(Fraction(right), (j + 1) * step[1]) - max(Fraction(left), j * step[1])
            if tall > 0 and wide > 0:
                total += tall * wide * Fraction(float(saliency[i, j]))
    return total / ((bottom - top) * (right - left))


def salient_order(saliency, grid, size):
    """Patches, counted row by row, from the most salient to the least; equal ones as they are counted."""
    means = [cell_mean(saliency, a, b, grid, size) for a in range(grid[0]) for b in range(grid[1])]
    return sorted(range(len(means)), key=lambda patch: (-means[patch], patch))


def occlude(image, hidden, grid):
    """``(H, W, C)`` with the patches of a list set to 0."""
    image = image.copy()
    for patch in hidden:
        (top, bottom), (left, right) = (
            bounds(index, patches, side)
            for index, patches, side in zip(divmod(patch, grid[1]), grid, image.shape, strict=False)
        )
        image[top:bottom, left:right] = 0
    return image


def hidden_patches(image, grid):
    """The patches of an image ``(H, W, C)`` of which every pixel is 0."""
    found = []
    for patch in range(grid[0] * grid[1]):
        a, b = divmod(patch, grid[1])
        (top, bottom), (left, right) = bounds(a, grid[0], image.shape[0]), bounds(b, grid[1], image.shape[1])
        if not image[top:bottom, left:right].any():
            found.append(patch)
    return found
