# Copyright (c) MMMixPro contributors.
"""Calibration, AURRA, AUPR and corruption error in loops, from their definitions; fractions, not percent."""

import itertools
import math

import numpy as np


def most_likely(scores, subset=None):
    """Confidence and class of one sample; as a softmax over ``subset`` alone has it if there is one."""
    total = 1 if subset is None else math.fsum(scores[c] for c in subset)
    classes = range(len(scores)) if subset is None else subset
    best = classes[0]
    for c in classes:
        if scores[c] > scores[best]:
            best = c
    return scores[best] / total, best


def rising(confidence, correct):
    """Pairs by rising confidence; of equal ones each is as right as they are on average."""
    pairs = []
    for c in sorted(confidence):
        equals = [right for other, right in zip(confidence, correct, strict=True) if other == c]
        pairs.append((float(c), sum(map(int, equals)) / len(equals)))
    return pairs


def gap(pairs):
    """``|accuracy - confidence|`` of the samples of one bin."""
    accuracy = math.fsum(right for _, right in pairs) / len(pairs)
    return abs(accuracy - math.fsum(c for c, _ in pairs) / len(pairs))


def ece(confidence, correct, num_bins):
    """Over bins ``((b - 1) / B, b / B]``; 0 is in the first."""
    total = 0.0
    for b in range(num_bins):
        pairs = [
            (c, bool(right))
            for c, right in zip(confidence, correct, strict=True)
            if b / num_bins < c <= (b + 1) / num_bins or (b == 0 and c == 0)
        ]
        if pairs:
            total += len(pairs) / len(confidence) * gap(pairs)
    return total


def ece_mass(confidence, correct, num_bins):
    """Over bins of as many samples, those of lower confidence with one more where it does not come out even."""
    pairs = rising(confidence, correct)
    total = 0.0
    for b in range(num_bins):
        size = len(confidence) // num_bins + (b < len(confidence) % num_bins)
        taken, pairs = pairs[:size], pairs[size:]
        if taken:
            total += size / len(confidence) * gap(taken)
    assert not pairs
    return total


def rms(confidence, correct, bin_size):
    """Over bins of ``bin_size`` samples, the last one with the rest."""
    pairs = rising(confidence, correct)
    bins = [[]]
    while pairs:
        if len(bins[-1]) >= bin_size and len(pairs) >= bin_size:
            bins.append([])
        bins[-1].append(pairs.pop(0))
    return math.sqrt(math.fsum(len(taken) / len(confidence) * gap(taken) ** 2 for taken in bins))


def rms_hendrycks(confidence, correct, bin_size):
    """Likewise without the last bin; NumPy's sort and mean, which the metric must match to the bit."""
    order = np.argsort(confidence)
    total = 0.0
    for b in range(len(confidence) // bin_size - 1):
        taken = order[b * bin_size : (b + 1) * bin_size]
        total += len(taken) / len(confidence) * (confidence[taken].mean() - correct[taken].mean()) ** 2
    return math.sqrt(total)


def aurra(correct):
    """Mean accuracy of the first ``k`` for all ``k``, the most confident sample first."""
    curve = [sum(map(int, correct[:k])) / k for k in range(1, len(correct) + 1)]
    return math.fsum(curve) / len(curve)


def aurra_of_all_orders(confidence, correct):
    """Mean over all orders in which confidence does not rise."""
    orders = [
        order
        for order in itertools.permutations(range(len(confidence)))
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order))
    ]
    return math.fsum(aurra([correct[i] for i in order]) for order in orders) / len(orders)


def aurra_with_equals(confidence, correct):
    """The same at once: ``k`` samples take as many of the equals at the edge, which are right on average."""
    right = [share for _, share in reversed(rising(confidence, correct))]
    return math.fsum(math.fsum(right[:k]) / k for k in range(1, len(right) + 1)) / len(right)


def aupr(score, positive):
    """Sum over thresholds, from high to low, of precision times the recall gained."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        found = [p for s, p in zip(score, positive, strict=True) if s >= threshold]
        recall = sum(map(int, found)) / sum(map(int, positive))
        total += sum(map(int, found)) / len(found) * (recall - before)
        before = recall
    return total


def corruption_errors(corruption, severity, correct):
    """Mean of the errors at each severity, by corruption."""
    errors = {}
    for name in set(corruption):
        at = []
        for level in range(1, 6):
            hits = [
                right
                for n, s, right in zip(corruption, severity, correct, strict=True)
                if n == name and s == level
            ]  # fmt: skip
            if hits:
                at.append(1 - sum(map(int, hits)) / len(hits))
        errors[name] = sum(at) / len(at)
    return errors


def mean_corruption_error(errors, baseline, clean=0.0, baseline_clean=0.0):
    """mCE; relative with the errors on clean images."""
    ratios = [(errors[name] - clean) / (baseline[name] - baseline_clean) for name in baseline]
    return sum(ratios) / len(ratios)
