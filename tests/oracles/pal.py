# Copyright (c) MMMixPro contributors.
"""The loss of a whole step of MixPro, from what the network saw and said."""

import numpy as np

from .attention import class_row, full_attention
from .labels import lambda_pal, lambda_transmix, smooth, soft_cross_entropy
from .mixing import find_sources, lambda_area, mix_labels, partner_and_mask


def attention_maps(queries, keys, num_extra_tokens, h, w):
    """``(h, w)`` class attention of each image, from queries and keys ``(heads, L, d)`` of each."""
    return [class_row(full_attention(q, k), num_extra_tokens, h, w) for q, k in zip(queries, keys, strict=True)]


def step_labels(originals, mixed, labels, attention, logits, lam):
    """``(N, K)`` labels of a batch of mixed images.

    Args:
        originals: ``(N, C, H, W)`` images before mixing; no two share a pixel.
        mixed: ``(N, C, H, W)`` images that entered the network.
        labels: ``(N, K)`` one-hot labels of the originals.
        attention: ``(h, w)`` class attention of each image.
        logits: ``(N, K)``.
        lam: Function of attention, mask, logits, labels_i, labels_j to the weight of ``labels_i``.
    """
    sources = find_sources(mixed, originals)
    out = []
    for i in range(len(mixed)):
        j, mask = partner_and_mask(sources, i)
        weight = lam(attention[i], mask, logits[i], labels[i], labels[j])
        out.append(mix_labels(labels[i], labels[j], weight, 1 - weight))
    return np.array(out)


def mean_loss(logits, labels, label_smooth):
    """Mean over the batch of the cross entropy with smoothed labels."""
    total = 0.0
    for z, y in zip(logits, labels, strict=True):
        total += soft_cross_entropy(z, smooth(y, label_smooth))
    return total / len(logits)


def by_area(attention, mask, logits, labels_i, labels_j):
    return lambda_area(mask)


def by_pal(attention, mask, logits, labels_i, labels_j):
    return lambda_pal(attention, mask, logits, labels_i, labels_j)


def by_transmix(attention, mask, logits, labels_i, labels_j):
    return lambda_transmix(attention, mask)
