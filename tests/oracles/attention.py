# Copyright (c) MMMixPro contributors.
"""Where the class token looks (Eq. 1 to 4 of MixPro), from the full softmax attention."""

import math

import numpy as np


def softmax(values):
    """Softmax of a vector."""
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return np.array([power / sum(powers) for power in powers])


def split_heads(tokens, num_heads, part, num_parts):
    """``(heads, L, d)`` of one of the ``num_parts`` that a linear layer packs: part, head, d."""
    length, channels = tokens.shape
    dims = channels // num_parts // num_heads
    out = np.zeros((num_heads, length, dims))
    for head in range(num_heads):
        for token in range(length):
            for e in range(dims):
                out[head, token, e] = tokens[token, (part * num_heads + head) * dims + e]
    return out


def full_attention(query, key):
    """``softmax(q k^T / sqrt(d))``, ``(heads, L, L)``, of one image."""
    heads, length, dims = query.shape
    attention = np.zeros((heads, length, key.shape[1]))
    for head in range(heads):
        for a in range(length):
            scores = [float(query[head, a] @ key[head, b]) / math.sqrt(dims) for b in range(key.shape[1])]
            attention[head, a] = softmax(scores)
    return attention


def class_row(attention, num_extra_tokens, h, w):
    """``(h, w)`` attention of token 0 over the patches: mean of the heads, summing to 1."""
    heads, _, length = attention.shape
    row = np.zeros(length - num_extra_tokens)
    for head in range(heads):
        for patch in range(len(row)):
            row[patch] += attention[head, 0, num_extra_tokens + patch] / heads
    return (row / row.sum()).reshape(h, w)
