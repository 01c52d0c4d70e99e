# Copyright (c) MMMixPro contributors.
from .attentive_cutmix import AttentiveCutMix
from .base import BatchMixer, CellMixer
from .gridmix import GridMix
from .mixpro import MixProBatchAugment
from .puzzlemix import PuzzleMix
from .saliencymix import SaliencyMix
from .smmix import SMMix
from .transmix import TransMixBatchAugment

__all__ = [
    'AttentiveCutMix',
    'BatchMixer',
    'CellMixer',
    'GridMix',
    'MixProBatchAugment',
    'PuzzleMix',
    'SMMix',
    'SaliencyMix',
    'TransMixBatchAugment',
]
