# Copyright (c) MMMixPro contributors.
"""How far confidence is from accuracy.

Sums run over sorted float64, so that no figure depends on the order of the samples, nor on how many ranks share them
(but for the reference's own treatment of ties in :class:`HendrycksRMSCalibrationError`).
"""

import logging
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmpretrain.registry import METRICS
from numpy import ndarray

from .confidence import ConfidenceMetric, sort_by_confidence


def check_count(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f'{name} expects an int of at least 1, found {value!r}')
    return value


@METRICS.register_module()
class ExpectedCalibrationError(ConfidenceMetric):
    r"""ECE over bins of equal width, ``ece`` in percent.

    .. math::
        \text{ECE} = \sum_{b=1}^{B} \frac{n_b}{N} |\text{acc}_b - \text{conf}_b|

    over the samples whose confidence is in :math:`(\frac{b-1}{B}, \frac{b}{B}]`, as in
    `Guo et al. <https://arxiv.org/abs/1706.04599>`_; a confidence of 0 counts to the first bin. torchmetrics, which has
    it else, closes bins on the left, and gives a confidence of exactly 1 a bin of its own: both agree where no
    confidence is at the edge of a bin.

    Args:
        num_bins: :math:`B`.
        subset: See :class:`ConfidenceMetric`, like ``kwargs``.
    """

    key = 'ece'

    def __init__(self, num_bins: int = 15, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_bins = check_count('num_bins', num_bins)

    def calculate(self, confidence: ndarray, correct: ndarray) -> float:
        confidence, correct = sort_by_confidence(confidence, correct)
        edges = np.arange(1, self.num_bins) / self.num_bins
        gaps = np.bincount(np.searchsorted(edges, confidence, side='left'), confidence - correct)
        return np.abs(gaps).sum() / len(confidence)


@METRICS.register_module()
class EqualMassCalibrationError(ExpectedCalibrationError):
    r"""ECE over bins of equally many samples, ``ece_mass`` in percent.

    As :class:`ExpectedCalibrationError`, but the samples are sorted by confidence and cut into :math:`B` bins of
    :math:`\lceil N/B \rceil` or :math:`\lfloor N/B \rfloor`, the larger ones first (`Nguyen and O'Connor
    <https://arxiv.org/abs/1508.05154>`_; `Nixon et al. <https://arxiv.org/abs/1904.01685>`_). Samples of equal
    confidence count as right as they are on average, so that it does not matter which of them comes first.

    Args:
        num_bins: :math:`B`; fewer where there are fewer samples.
        subset: See :class:`ConfidenceMetric`, like ``kwargs``.
    """

    key = 'ece_mass'

    def calculate(self, confidence: ndarray, correct: ndarray) -> float:
        confidence, correct = sort_by_confidence(confidence, correct)
        bins = np.array_split(confidence - correct, self.num_bins)
        return sum(abs(gap.sum()) for gap in bins) / len(confidence)


@METRICS.register_module()
class RMSCalibrationError(ConfidenceMetric):
    r"""Root mean square calibration error over bins of equally many samples, ``rms`` in percent.

    .. math::
        \text{RMS} = \sqrt{\sum_b \frac{n_b}{N} (\text{acc}_b - \text{conf}_b)^2}

    (`Hendrycks et al. <https://arxiv.org/abs/1812.04606>`__), over samples sorted by confidence, :math:`\lfloor N/n
    \rfloor` bins (at least one) of :math:`n` samples, the last of which takes the rest too. These are the bins of the
    code that reports it for `ImageNet-A <https://arxiv.org/abs/1907.07174>`_; that code then leaves the last one out,
    the most confident samples (:class:`HendrycksRMSCalibrationError`). Unlike there, samples of equal confidence count
    as right as they are on average, so that it does not matter which of them comes first.

    Args:
        bin_size: :math:`n`.
        subset: See :class:`ConfidenceMetric`, like ``kwargs``.
    """

    key = 'rms'

    def __init__(self, bin_size: int = 100, **kwargs: Any):
        super().__init__(**kwargs)
        self.bin_size = check_count('bin_size', bin_size)

    def calculate(self, confidence: ndarray, correct: ndarray) -> float:
        confidence, correct = sort_by_confidence(confidence, correct)
        cuts = np.arange(1, max(len(confidence) // self.bin_size, 1)) * self.bin_size
        bins = np.split(confidence - correct, cuts)
        return np.sqrt(sum(gap.sum() ** 2 / len(gap) for gap in bins) / len(confidence))


@METRICS.register_module()
class HendrycksRMSCalibrationError(RMSCalibrationError):
    r"""The RMS calibration error as reported for ImageNet-A, ``rms_hendrycks`` in percent.

    To rounding what ``calib_err`` in ``calibration_tools.py`` of `natural-adv-examples
    <https://github.com/hendrycks/natural-adv-examples>`_ returns for the same confidences in the same order, with all
    it does differently from :class:`RMSCalibrationError`: the last bin is left out though its samples count in
    :math:`N`, and samples of equal confidence stay in the order that NumPy's unstable sort happens to give them.
    For figures to set beside published ones; too low by what the most confident samples would add.

    Args:
        bin_size: Samples per bin. With fewer than two full bins nothing is left and the result is 0, with fewer than
            one the original fails and there is none; a warning says so.
        subset: See :class:`ConfidenceMetric`, like ``kwargs``.
    """

    key = 'rms_hendrycks'

    def summarize(self, rows: ndarray) -> dict:
        bins = len(rows) // self.bin_size
        if bins < 2:
            message = (
                f'of {len(rows)} samples, {bins} bins of {self.bin_size}, the last bin is left out: nothing is left'
            )
            print_log(f'{type(self).__name__}: {message}', logger='current', level=logging.WARNING)
        return super().summarize(rows) if bins else {}

    def calculate(self, confidence: ndarray, correct: ndarray) -> float:
        total, size = len(confidence), self.bin_size
        order = np.argsort(confidence)
        confidence, correct = confidence[order], correct[order]
        error = 0.0
        for start in range(0, (total // size - 1) * size, size):
            chunk = slice(start, start + size)
            error += size / total * np.square(np.mean(confidence[chunk]) - np.mean(correct[chunk]))
        return np.sqrt(error)
