# Copyright (c) MMMixPro contributors.
"""Data that MMMixPro brings along (import it from its modules), and faster transforms for everyone's.

Importing it lets mmengine read ``zip://`` and ``lmdb://``.
"""

from . import archives, robustness
from .content_maps import LoadContentMap, TrackedRandomResizedCrop
from .occlusion import NonSalientOcclusion, RandomOcclusion, SalientOcclusion, TrackedCenterCrop
from .transforms import (
    FastRandAugment,
    FastRandomErasing,
    FastRandomFlip,
    FastRandomResizedCrop,
)

__all__ = [
    'FastRandAugment',
    'FastRandomErasing',
    'FastRandomFlip',
    'FastRandomResizedCrop',
    'LoadContentMap',
    'NonSalientOcclusion',
    'RandomOcclusion',
    'SalientOcclusion',
    'TrackedCenterCrop',
    'TrackedRandomResizedCrop',
    'archives',
    'robustness',
]
