# Copyright (c) MMMixPro contributors.
"""Attacks on a linear classifier of normalised pixels (arXiv 1412.6572, 1706.06083), by the derivative on paper."""

import numpy as np

from .attention import softmax


def loss(pixels, label, weight, bias, mean, std):
    """Cross entropy of ``(C, H, W)`` pixels in [0, 255]; ``weight`` is ``(classes, C * H * W)``."""
    normal = (pixels - mean[:, None, None]) / std[:, None, None]
    return -np.log(softmax(weight @ normal.ravel() + bias)[label])


def gradient(pixels, label, weight, bias, mean, std):
    """Of the loss with respect to the pixels: ``W^T (softmax(Wz + b) - y)`` over the standard deviation."""
    normal = (pixels - mean[:, None, None]) / std[:, None, None]
    wrong = softmax(weight @ normal.ravel() + bias)
    wrong[label] -= 1
    return (weight.T @ wrong).reshape(pixels.shape) / std[:, None, None]


def pgd(pixels, start, eps, step, steps, *model):
    """Each value goes by ``step`` where the loss grows, and no further than ``eps`` from where it was."""
    x = start.copy()
    for _ in range(steps):
        slope = gradient(x, *model)
        for place in np.ndindex(x.shape):
            value = x[place] + step * np.sign(slope[place])
            value = min(max(value, pixels[place] - eps), pixels[place] + eps)
            x[place] = min(max(value, 0), 255)
    return x
