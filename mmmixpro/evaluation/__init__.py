# Copyright (c) MMMixPro contributors.
"""Metrics of robustness and calibration, for ``val_evaluator`` and ``test_evaluator`` of any mmpretrain config."""

from .aurra import AURRA
from .calibration import (
    EqualMassCalibrationError,
    ExpectedCalibrationError,
    HendrycksRMSCalibrationError,
    RMSCalibrationError,
)
from .compact_accuracy import CompactAccuracy
from .corruption import CorruptionError
from .ood import OODAUPR
from .subset import SubsetAccuracy

__all__ = [
    'AURRA',
    'CompactAccuracy',
    'CorruptionError',
    'EqualMassCalibrationError',
    'ExpectedCalibrationError',
    'HendrycksRMSCalibrationError',
    'OODAUPR',
    'RMSCalibrationError',
    'SubsetAccuracy',
]
