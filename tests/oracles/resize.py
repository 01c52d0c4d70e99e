# Copyright (c) MMMixPro contributors.
import math

import numpy as np


def bilinear(grid, height, width):
    """Bilinear interpolation of ``(h, w, C)`` to ``(height, width, C)``, pixel centres aligned."""
    h, w, _ = grid.shape
    out = np.zeros((height, width, grid.shape[2]))
    for y in range(height):
        for x in range(width):
            source_y = max((y + 0.5) * h / height - 0.5, 0.0)
            source_x = max((x + 0.5) * w / width - 0.5, 0.0)
            top, left = math.floor(source_y), math.floor(source_x)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            dy, dx = source_y - top, source_x - left
            upper = (1 - dx) * grid[top, left] + dx * grid[top, right]
            lower = (1 - dx) * grid[bottom, left] + dx * grid[bottom, right]
            out[y, x] = (1 - dy) * upper + dy * lower
    return out


def linear(size, to):
    """``(to, size)`` matrix of linear interpolation, pixel centres aligned, edges repeated."""
    matrix = np.zeros((to, size))
    for i in range(to):
        centre = max((i + 0.5) * size / to - 0.5, 0.0)
        below = math.floor(centre)
        matrix[i, below] += 1 - (centre - below)
        matrix[i, min(below + 1, size - 1)] += centre - below
    return matrix


def cubic(size, to):
    """``(to, size)`` matrix of cubic convolution (a = -0.75), pixel centres aligned, edges repeated."""
    matrix = np.zeros((to, size))
    for i in range(to):
        centre = (i + 0.5) * size / to - 0.5
        for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            t = abs(centre - j)
            near = 1.25 * t**3 - 2.25 * t**2 + 1
            far = -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)
            matrix[i, np.clip(j, 0, size - 1)] += near if t <= 1 else far
    return matrix
