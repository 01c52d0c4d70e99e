# Copyright (c) MMMixPro contributors.
from .base import BatchMixer
from .mixpro import MixProBatchAugment
from .transmix import TransMixBatchAugment

__all__ = ['BatchMixer', 'MixProBatchAugment', 'TransMixBatchAugment']
