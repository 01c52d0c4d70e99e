# Copyright (c) MMMixPro contributors.
"""Label space: lambda of each method, and the loss (Eq. 5, 7, 8 and 9 of MixPro; TransMix)."""

import math

import numpy as np

from .attention import softmax
from .mixing import down_area, down_nearest, lambda_area, mix_labels


def lambda_attention(attention, mask, nearest):
    """``A . down(M)`` (Eq. 5) of one image."""
    h, w = attention.shape
    tokens = down_nearest(mask, h, w) if nearest else down_area(mask, h, w)
    total = 0.0
    for a in range(h):
        for b in range(w):
            total += attention[a, b] * tokens[a, b]
    return total


def cosine(p, y):
    """``p . y / (|p| |y|)`` (Eq. 8)."""
    dot = sum(a * b for a, b in zip(p, y, strict=True))
    return dot / (math.sqrt(sum(a * a for a in p)) * math.sqrt(sum(b * b for b in y)))


def smooth(target, eps):
    """``(1 - eps) * y + eps / K``, label smoothing as its paper has it."""
    return np.array([(1 - eps) * value + eps / len(target) for value in target])


def lambda_pal(attention, mask, logits, labels_i, labels_j, area=None, label_smooth=0.0, nearest=False):
    """Eq. 9 of one image; ``area`` replaces the share of pixels where cells are counted instead."""
    area = lambda_area(mask) if area is None else area
    target = smooth(mix_labels(labels_i, labels_j, area, 1 - area), label_smooth)
    alpha = cosine(softmax(logits), target)
    return alpha * lambda_attention(attention, mask, nearest) + (1 - alpha) * area


def lambda_with_factor(attention, mask, alpha, nearest=False):
    """Eq. 9 of one image with a factor that does not hang on it (Table 10)."""
    return alpha * lambda_attention(attention, mask, nearest) + (1 - alpha) * lambda_area(mask)


def lambda_transmix(attention, mask, area_weight=0.5, nearest=True):
    """Half area, half attention, as TransMix's released code has it."""
    return area_weight * lambda_area(mask) + (1 - area_weight) * lambda_attention(attention, mask, nearest)


def soft_cross_entropy(logits, target):
    """``-sum(y * log softmax(z))`` of one image."""
    top = max(logits)
    log_sum = top + math.log(sum(math.exp(z - top) for z in logits))
    return -sum(y * (z - log_sum) for y, z in zip(target, logits, strict=True))
