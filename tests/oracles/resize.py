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
