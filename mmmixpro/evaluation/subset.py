# Copyright (c) MMMixPro contributors.
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmpretrain.registry import METRICS
from numpy import ndarray

from .base import SampleMetric
from .scores import check_target, read_scores, read_subset, read_target, to_host, top1


@METRICS.register_module()
class SubsetAccuracy(SampleMetric):
    """Top-1 accuracy on a dataset of some of the model's classes, ``top1`` and ``top1_all`` in percent.

    ImageNet-A and -R have 200 of the 1000 classes. ``top1``, the figure that is reported for them, lets the model
    choose among these (`Hendrycks et al. <https://arxiv.org/abs/1907.07174>`__); ``top1_all`` among all its classes,
    and can only be lower. The classes are in ``dataset_meta['subset']``.

    Args:
        kwargs: ``collect_device``, ``prefix`` and ``collect_dir`` of :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = 'accuracy'
    row = np.dtype([('top1', '?'), ('top1_all', '?')])

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep which samples of a batch are right.

        Args:
            data_batch: Not used.
            data_samples: With ``pred_score`` and ``gt_label``.

        Raises:
            ValueError: If one of these is missing, no probability or no class, or if the dataset names no subset.
        """
        scores = read_scores(data_samples)
        classes = read_subset(self.dataset_meta, scores.shape[1])
        target = read_target(data_samples, scores)
        columns = *top1(scores, classes), top1(scores)[1], target
        _, among, any_label, target = to_host(data_samples, scores, *columns)
        check_target(target, classes)
        rows = np.empty(len(target), self.row)
        rows['top1'], rows['top1_all'] = among == target, any_label == target
        self.results.append(rows)

    def summarize(self, rows: ndarray) -> dict:
        return {name: 100 * float(rows[name].mean()) for name in ('top1', 'top1_all')}
