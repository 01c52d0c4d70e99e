# Copyright (c) MMMixPro contributors.
"""Metrics of the confidence of each sample, its highest score, and whether that class is its label."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from .base import SampleMetric
from .scores import check_target, read_scores, read_subset, read_target, to_host, top1


def sort_by_confidence(confidence: ndarray, correct: ndarray) -> tuple[ndarray, ndarray]:
    """Both by rising confidence; where that is equal, each sample is as right as they are on average.

    Args:
        confidence: ``(N,)``.
        correct: ``(N,)`` bool.

    Returns:
        tuple: ``(N,)`` float64 each.
    """
    values, group, size = np.unique(confidence, return_inverse=True, return_counts=True)
    share = np.bincount(group, correct) / size
    return np.repeat(values, size), np.repeat(share, size)


class ConfidenceMetric(SampleMetric):
    """A metric of the confidence of each sample and whether it is right.

    Args:
        subset: Whether to renormalise ``pred_score`` over the classes in ``dataset_meta['subset']``.
        kwargs: ``collect_device``, ``prefix`` and ``collect_dir`` of :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = 'calibration'
    row = np.dtype([('confidence', 'f8'), ('correct', '?')])
    key: str  # of the figure

    def __init__(self, subset: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.subset = subset

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep confidence and correctness of a batch.

        Args:
            data_batch: Not used.
            data_samples: With ``pred_score`` and ``gt_label``.

        Raises:
            ValueError: If one of these is missing, no probability or no class, or if the dataset names no subset.
        """
        scores = read_scores(data_samples)
        classes = read_subset(self.dataset_meta, scores.shape[1]) if self.subset else None
        columns = *top1(scores, classes), read_target(data_samples, scores)
        confidence, label, target = to_host(data_samples, scores, *columns)
        check_target(target, classes or range(scores.shape[1]))
        rows = np.empty(len(confidence), self.row)
        rows['confidence'], rows['correct'] = confidence, label == target
        self.results.append(rows)

    def summarize(self, rows: ndarray) -> dict:
        figure = self.calculate(np.ascontiguousarray(rows['confidence']), np.ascontiguousarray(rows['correct']))
        return {self.key: 100 * float(figure)}

    @abstractmethod
    def calculate(self, confidence: ndarray, correct: ndarray) -> float:
        """The figure, in [0, 1].

        Args:
            confidence: ``(N,)`` float64 in [0, 1], N at least 1.
            correct: ``(N,)`` bool.
        """
