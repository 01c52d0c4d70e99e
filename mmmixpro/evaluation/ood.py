# Copyright (c) MMMixPro contributors.
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmpretrain.registry import METRICS
from numpy import ndarray

from .base import SampleMetric
from .scores import read, read_scores, read_subset, to_host, top1


@METRICS.register_module()
class OODAUPR(SampleMetric):
    """How well low confidence finds images of unknown classes, ``aupr`` in percent.

    Area under the precision-recall curve with images out of distribution as the positive class, and the negated
    confidence as their score, as ``get_measures`` in ``calibration_tools.py`` of `natural-adv-examples
    <https://github.com/hendrycks/natural-adv-examples>`_ has it for ImageNet-O (`Hendrycks et al.
    <https://arxiv.org/abs/1907.07174>`__): scikit-learn's ``average_precision_score``, the sum of precision times
    gained recall over all thresholds, not interpolated. Samples of equal confidence share a threshold, so that their
    order does not matter. On ImageNet-O confidence is the softmax over its 200 classes (``subset=True``), and what is
    in distribution are the images of ImageNet's validation set of these classes.

    A guess gives the share of images that are out of distribution, not 50 %.

    Args:
        subset: Whether to renormalise ``pred_score`` over the classes in ``dataset_meta['subset']``.
        kwargs: ``collect_device``, ``prefix`` and ``collect_dir`` of :class:`mmengine.evaluator.BaseMetric`.

    Raises:
        ImportError: If scikit-learn is missing.
    """

    default_prefix = 'ood'
    row = np.dtype([('confidence', 'f8'), ('ood', '?')])

    def __init__(self, subset: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        try:
            from sklearn.metrics import average_precision_score
        except ImportError:
            raise ImportError('OODAUPR uses scikit-learn, found none: pip install scikit-learn') from None
        self.average_precision = average_precision_score
        self.subset = subset

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep confidence and kind of the samples of a batch.

        Args:
            data_batch: Not used.
            data_samples: With ``pred_score`` and the meta key ``ood``, whether it is out of distribution.

        Raises:
            ValueError: If one of these is missing or no probability, or if the dataset names no subset.
        """
        scores = read_scores(data_samples)
        ood = read(data_samples, 'ood', 'use a dataset that marks images out of distribution, like ImageNetO')
        confidence, _ = top1(scores, read_subset(self.dataset_meta, scores.shape[1]) if self.subset else None)
        rows = np.empty(len(ood), self.row)
        rows['confidence'], rows['ood'] = to_host(data_samples, scores, confidence)[0], ood
        self.results.append(rows)

    def summarize(self, rows: ndarray) -> dict:
        num_ood = int(rows['ood'].sum())
        if num_ood in (0, len(rows)):
            raise ValueError(
                f'OODAUPR expects images in and out of distribution, found {len(rows) - num_ood} in and {num_ood} out'
            )
        return dict(aupr=100 * float(self.average_precision(rows['ood'], -rows['confidence'])))
