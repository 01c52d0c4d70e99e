# Copyright (c) MMMixPro contributors.
from .attentive_cutmix import AttentiveCutMix
from .base import BatchMixer, CellMixer
from .gridmix import GridMix
from .mixpro import MixProBatchAugment
from .saliencymix import SaliencyMix
from .smmix import SMMix
from .tokenmix import TokenMix, TokenMixPlan
from .transmix import TransMixBatchAugment

__all__ = [
    'AttentiveCutMix',
    'BatchMixer',
    'CellMixer',
    'GridMix',
    'MixProBatchAugment',
    'SMMix',
    'SaliencyMix',
    'TokenMix',
    'TokenMixPlan',
    'TransMixBatchAugment',
]
