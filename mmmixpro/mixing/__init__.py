# Copyright (c) MMMixPro contributors.
from .attentive_cutmix import AttentiveCutMix
from .base import BatchMixer, CellMixer
from .cutmix import CutMixBatchAugment
from .gridmix import GridMix
from .mixpro import MixProBatchAugment
from .mixup import MixupBatchAugment
from .puzzlemix import PuzzleMix
from .saliencymix import SaliencyMix
from .shuffled_maskmix import ShuffledMaskMix
from .smmix import SMMix
from .tokenmix import TokenMix, TokenMixPlan
from .transmix import TransMixBatchAugment

__all__ = [
    'AttentiveCutMix',
    'BatchMixer',
    'CellMixer',
    'CutMixBatchAugment',
    'GridMix',
    'MixProBatchAugment',
    'MixupBatchAugment',
    'PuzzleMix',
    'SMMix',
    'SaliencyMix',
    'ShuffledMaskMix',
    'TokenMix',
    'TokenMixPlan',
    'TransMixBatchAugment',
]
