# Copyright (c) MMMixPro contributors.
"""SMMix (arXiv 2212.12977, section 3): its regions, its images and its three losses."""

import math

import numpy as np

from .attention import softmax
from .labels import smooth, soft_cross_entropy
from .mixing import mix_labels


def patch_scores(attention, num_extra_tokens, h, w):
    """``(h, w)`` mean attention ``(heads, L, L)`` of all patches on each patch, over the heads."""
    heads, length, _ = attention.shape
    scores = np.zeros(length - num_extra_tokens)
    for head in range(heads):
        for query in range(num_extra_tokens, length):
            for patch in range(len(scores)):
                scores[patch] += attention[head, query, num_extra_tokens + patch]
    return (scores / heads / len(scores)).reshape(h, w)


def region_sums(scores, side):
    """``{(top, left): sum}`` of every region of ``side`` x ``side`` tokens."""
    h, w = scores.shape
    sums = {}
    for top in range(h - side + 1):
        for left in range(w - side + 1):
            sums[top, left] = sum(scores[top + a, left + b] for a in range(side) for b in range(side))
    return sums


def cell_sources(scores_i, scores_j, side):
    """``(h, w)`` lists of what each cell shows: None its own image, else a cell of the partner."""
    least = region_sums(scores_i, side)
    most = region_sums(scores_j, side)
    top, left = min(least, key=least.get)
    from_top, from_left = max(most, key=most.get)
    h, w = scores_i.shape
    shown = [[None] * w for _ in range(h)]
    for a in range(side):
        for b in range(side):
            shown[top + a][left + b] = (from_top + a, from_left + b)
    return shown


def mix_cells(image_i, image_j, shown, cell):
    """``(C, H, W)`` image put together cell by cell."""
    mixed = image_i.copy()
    for a, row in enumerate(shown):
        for b, source in enumerate(row):
            if source is not None:
                y, x = source
                mixed[:, a * cell : (a + 1) * cell, b * cell : (b + 1) * cell] = image_j[
                    :, y * cell : (y + 1) * cell, x * cell : (x + 1) * cell
                ]
    return mixed


def lambda_area(side, h, w):
    """``1 - s^2 / (h w)``."""
    return 1 - side * side / (h * w)


def pooled_tokens(tokens, shown):
    """Mean of the tokens ``(h * w, C)`` that show the image itself, and of those that show its partner."""
    sums, counts = np.zeros((2, tokens.shape[1])), [0, 0]
    cells = [source for row in shown for source in row]
    for token, source in zip(tokens, cells, strict=True):
        part = int(source is not None)
        sums[part] += token
        counts[part] += 1
    return sums[0] / counts[0], sums[1] / counts[1]


def linear(weight, bias, x):
    return np.array([sum(a * b for a, b in zip(row, x, strict=True)) + c for row, c in zip(weight, bias, strict=True)])


def kl_divergence(p, q):
    """``sum(p log(p / q))``."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def losses(logits, clean_i, clean_j, token_i, token_j, labels_i, labels_j, lam, label_smooth):
    """The three of one image: of its mixed label, of its two parts, of its consistency.

    ``clean_*`` are logits of the images before mixing, ``token_*`` those of the token head.
    """
    mixed = soft_cross_entropy(logits, smooth(mix_labels(labels_i, labels_j, lam, 1 - lam), label_smooth))
    own = soft_cross_entropy(token_i, smooth(labels_i, label_smooth))
    other = soft_cross_entropy(token_j, smooth(labels_j, label_smooth))
    expected = softmax([lam * a + (1 - lam) * b for a, b in zip(clean_i, clean_j, strict=True)])
    return mixed, (own + other) / 2, kl_divergence(expected, softmax(logits))


def find_cells(mixed, originals, cell):
    """Per mixed image an ``(h, w)`` grid of the ``(image, (row, column))`` that each cell was taken from.

    No two pixels of the originals may be alike.
    """
    num, _, height, width = mixed.shape
    h, w = height // cell, width // cell
    corners = {}
    for j in range(num):
        for y in range(h):
            for x in range(w):
                corners[tuple(originals[j, :, y * cell, x * cell])] = j, (y, x)
    found = []
    for i in range(num):
        found.append([[None] * w for _ in range(h)])
        for a in range(h):
            for b in range(w):
                block = mixed[i, :, a * cell : (a + 1) * cell, b * cell : (b + 1) * cell]
                j, (y, x) = corners[tuple(block[:, 0, 0])]
                if (block != originals[j, :, y * cell : (y + 1) * cell, x * cell : (x + 1) * cell]).any():
                    raise AssertionError(f'cell {a, b} of image {i} is not a whole cell of image {j}')
                found[i][a][b] = j, (y, x)
    return found


def partner_and_shown(found, i):
    """Partner of image ``i`` and what its cells show, as :func:`cell_sources` has it."""
    shown, images = [], set()
    for a, row in enumerate(found[i]):
        shown.append([])
        for b, (j, place) in enumerate(row):
            own = (j, place) == (i, (a, b))
            shown[a].append(None if own else place)
            if not own:
                images.add(j)
    if len(images) != 1:
        raise AssertionError(f'image {i} shows regions of {sorted(images)}')
    return images.pop(), shown
