# Copyright (c) MMMixPro contributors.
"""TokenMix (arXiv 2207.08409): its blocks, its activation maps and its two weights."""

import math

import numpy as np

from .mixing import down_area


def block_cells(gh, gw, count, least, attempts=10, aspect=0.3):
    """False in up to ``count`` cells, block by block, from NumPy's global draws: area, aspect, top, left."""
    cells = [[True] * gw for _ in range(gh)]
    covered, failed = 0, 0
    while covered < count and failed < attempts:
        left = count - covered
        bounds = sorted([least, left])
        area = bounds[0] + (bounds[1] - bounds[0]) * np.random.rand()
        ratio = math.exp(math.log(aspect) * (1 - 2 * np.random.rand()))
        h, w = int(np.rint(math.sqrt(area * ratio))), int(np.rint(math.sqrt(area / ratio)))
        failed += 1
        if h == 0 or w == 0 or h >= gh or w >= gw:
            continue
        top, column = np.random.randint(0, gh - h + 1), np.random.randint(0, gw - w + 1)
        new = [(a, b) for a in range(top, top + h) for b in range(column, column + w) if cells[a][b]]
        if 0 < len(new) <= left:
            for a, b in new:
                cells[a][b] = False
            covered += len(new)
            failed = 0
    return np.array(cells)


def activation(features, weight, bias, label, top_k):
    """Class activation map of ``(C, h, w)`` features: the label's logit where it is positive and among the best."""
    _, h, w = features.shape
    out = np.zeros((h, w))
    for a in range(h):
        for b in range(w):
            here = np.float64(features[:, a, b])
            logits = [np.dot(np.float64(row), here) + shift for row, shift in zip(weight, bias, strict=True)]
            better = sum(logit > logits[label] for logit in logits)
            if better < top_k and logits[label] > 0:
                out[a, b] = logits[label]
    return out


def normalise(content):
    """Sum 1; the same everywhere where there is nothing."""
    total = sum(float(value) for value in content.flat)
    return content / total if total > 0 else np.full(content.shape, 1 / content.size)


def weights(content_i, content_j, mask):
    """``w_i`` and ``w_j`` of one image with the pixel mask ``(H, W)``, 1 where image ``i`` is shown."""
    shown = down_area(mask, *content_i.shape)
    w_i = w_j = 0.0
    for own, other, part in zip(normalise(content_i).flat, normalise(content_j).flat, shown.flat, strict=True):
        w_i += own * part
        w_j += other * (1 - part)
    return w_i, w_j


def crop_map(content, box, size):
    """Mean of ``(h, w)`` over ``size`` x ``size`` parts of the box ``(top, bottom, left, right)``, in shares."""
    h, w = content.shape
    top, bottom, left, right = box[0] * h, box[1] * h, box[2] * w, box[3] * w
    out = np.zeros((size, size))
    for a in range(size):
        for b in range(size):
            y0, y1 = top + (bottom - top) * a / size, top + (bottom - top) * (a + 1) / size
            x0, x1 = left + (right - left) * b / size, left + (right - left) * (b + 1) / size
            for y in range(h):
                for x in range(w):
                    part = max(min(y1, y + 1) - max(y0, y), 0) * max(min(x1, x + 1) - max(x0, x), 0)
                    out[a, b] += content[y, x] * part / ((y1 - y0) * (x1 - x0))
    return out
