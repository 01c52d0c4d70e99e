# Copyright (c) MMMixPro contributors.
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmpretrain.registry import METRICS
from numpy import ndarray

from .base import SampleMetric
from .scores import check_target, read, read_scores, read_target, to_host, top1

SEVERITIES = 5
CLEAN = 'clean'
IMAGENET_CLASSES = 1000
# Top-1 errors on ImageNet-C in percent, means over the severities, which https://github.com/hendrycks/robustness links
# to, as AugMix and others use them; `clean` is torchvision's 56.522 % accuracy.
ALEXNET_ERRORS = {
    'gaussian_noise': 88.6428,
    'shot_noise': 89.4468,
    'impulse_noise': 92.2640,
    'defocus_blur': 81.9880,
    'glass_blur': 82.6268,
    'motion_blur': 78.5948,
    'zoom_blur': 79.8360,
    'snow': 86.6816,
    'frost': 82.6572,
    'fog': 81.9324,
    'brightness': 56.4592,
    'contrast': 85.3204,
    'elastic_transform': 64.6056,
    'pixelate': 71.7840,
    'jpeg_compression': 60.6500,
    CLEAN: 43.478,
}


def check_errors(errors: Mapping[str, float]) -> Mapping[str, float]:
    """Refuse what cannot be a baseline: errors of 0, or fractions, which would make mCE 100 times too large."""
    values = list(errors.values())
    if not set(errors) - {CLEAN} or min(values) <= 0 or max(values) > 100 or max(values) <= 1:
        raise ValueError(
            'CorruptionError expects baseline errors in percent by corruption, such as gaussian_noise=88.6, found '
            f'{dict(errors)}'
        )
    return errors


@METRICS.register_module()
class CorruptionError(SampleMetric):
    r"""Top-1 error on corrupted images, in percent.

    One figure by the name of each corruption, the mean of its errors at each severity; ``error``, the mean of these;
    ``mce``, the mean corruption error, and ``relative_mce``
    (`Hendrycks and Dietterich <https://arxiv.org/abs/1903.12261>`_):

    .. math::
        \text{CE}_c = \frac{\sum_s E_{s,c}}{\sum_s B_{s,c}}
        \qquad
        \text{relative CE}_c = \frac{\sum_s (E_{s,c} - E_\text{clean})}{\sum_s (B_{s,c} - B_\text{clean})}

    and the mean of each over the corruptions of the baseline :math:`B`, of which all must be there at all 5
    severities, and for AlexNet's in equally many images: a part of them is no mCE, and a warning says what it lacks.

    Args:
        baseline: Errors of the baseline in percent by corruption, each the mean over the severities, ``clean`` the one
            on clean images. Those of AlexNet on ImageNet-C by default, which say nothing about a model with other
            than 1000 classes: then there is no mCE. None: no mCE.
        clean_error: The model's own error on clean images in percent, for ``relative_mce``.
        kwargs: ``collect_device``, ``prefix`` and ``collect_dir`` of :class:`mmengine.evaluator.BaseMetric`.

    Raises:
        ValueError: If the baseline is not in percent.
    """

    default_prefix = 'corruption'
    # 34 bytes a sample; the longest name of ImageNet-C and its kin has 26 letters.
    row = np.dtype([('corruption', 'S32'), ('severity', 'u1'), ('correct', '?')])

    def __init__(
        self,
        baseline: Mapping[str, float] | None = ALEXNET_ERRORS,
        clean_error: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        #: Whether the baseline is AlexNet's, on the whole of ImageNet-C.
        self.alexnet = baseline == ALEXNET_ERRORS
        self.baseline = baseline if baseline is None else check_errors(baseline)
        self.clean_error = clean_error

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep which samples of a batch are right.

        Args:
            data_batch: Not used.
            data_samples: With ``pred_score``, ``gt_label``, and the meta keys ``corruption``, a name, and
                ``severity``, 1 to 5.

        Raises:
            ValueError: If one of these is missing, no probability, no class or no severity.
        """
        scores = read_scores(data_samples)
        if self.baseline is not None and self.alexnet and scores.shape[1] != IMAGENET_CLASSES:
            self.warn(f'compares with AlexNet on {IMAGENET_CLASSES} classes, the model has {scores.shape[1]}: no mCE')
            self.baseline = None
        mend = 'use a dataset of corrupted images, like ImageNetC'
        names = [name.encode() for name in read(data_samples, 'corruption', mend)]
        severities = read(data_samples, 'severity', mend)
        if max(map(len, names)) > self.row['corruption'].itemsize:
            raise ValueError(f'expected names of corruptions of at most 32 bytes, found {max(names, key=len)!r}')
        if not set(severities) <= set(range(1, SEVERITIES + 1)):
            raise ValueError(f'expected severities of 1 to {SEVERITIES}, found {sorted(set(severities))}')
        label, target = to_host(data_samples, scores, top1(scores)[1], read_target(data_samples, scores))
        check_target(target, range(scores.shape[1]))
        rows = np.empty(len(names), self.row)
        rows['corruption'], rows['severity'], rows['correct'] = names, severities, label == target
        self.results.append(rows)

    def summarize(self, rows: ndarray) -> dict:
        names, kind = np.unique(rows['corruption'], return_inverse=True)
        cell = kind * SEVERITIES + rows['severity'] - 1
        size = np.bincount(cell, minlength=len(names) * SEVERITIES).reshape(-1, SEVERITIES)
        wrong = np.bincount(cell, ~rows['correct'], minlength=size.size).reshape(size.shape)
        if len(np.unique(size > 0, axis=0)) > 1:
            self.warn('found some corruptions at other severities than others, and their errors are not comparable')
        # Severities that are not there do not count.
        errors = np.nanmean(100 * wrong / np.where(size, size, np.nan), axis=1)
        figures = dict(zip((name.decode() for name in names), errors.tolist(), strict=True))
        whole = {
            name
            for name, sizes in zip(figures, size, strict=True)
            if sizes.all() and not (self.alexnet and sizes.min() < size.max())
        }
        return {**figures, 'error': float(errors.mean()), **self.against_baseline(figures, whole)}

    def against_baseline(self, errors: dict[str, float], whole: set[str]) -> dict:
        """``mce`` and ``relative_mce``, where there is what they need.

        Args:
            errors: In percent by corruption.
            whole: The corruptions of which all severities are there.
        """
        if self.baseline is None:
            return {}
        names = [name for name in self.baseline if name != CLEAN]
        lacking = [name for name in names if name not in whole]
        if lacking:
            self.warn(f'lacks {", ".join(lacking)}, or some of their {SEVERITIES} severities or images: no mCE')
            return {}
        figures = dict(mce=100 * float(np.mean([errors[name] / self.baseline[name] for name in names])))
        if self.clean_error is not None and CLEAN in self.baseline:
            lost = [(errors[name] - self.clean_error) / (self.baseline[name] - self.baseline[CLEAN]) for name in names]
            figures['relative_mce'] = 100 * float(np.mean(lost))
        return figures

    def warn(self, why: str) -> None:
        print_log(f'CorruptionError {why}', logger='current', level=logging.WARNING)
