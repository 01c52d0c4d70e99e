# Copyright (c) MMMixPro contributors.
import numpy as np
from mmpretrain.registry import METRICS
from numpy import ndarray

from .confidence import ConfidenceMetric, sort_by_confidence


@METRICS.register_module()
class AURRA(ConfidenceMetric):
    r"""Area under the response rate accuracy curve, ``aurra`` in percent.

    .. math::
        \text{AURRA} = \frac{1}{N} \sum_{k=1}^{N} \text{accuracy of the } k \text{ most confident samples}

    as ``aurra`` in ``calibration_tools.py`` of `natural-adv-examples
    <https://github.com/hendrycks/natural-adv-examples>`_ (`Hendrycks et al. <https://arxiv.org/abs/1907.07174>`__) has
    it, and to rounding the same where all confidences differ. Where some are equal, that code takes them in the order
    that NumPy's unstable sort happens to give them; this is the mean over all their orders, which does not depend on
    the order of the samples.

    Args:
        subset: See :class:`ConfidenceMetric`, like ``kwargs``.
    """

    key = 'aurra'

    def calculate(self, confidence: ndarray, correct: ndarray) -> float:
        # The mean over all orders is linear in what is right, so each sample may stand for the average of its equals.
        _, correct = sort_by_confidence(confidence, correct)
        return float(np.mean(np.cumsum(correct[::-1]) / np.arange(1, len(correct) + 1)))
