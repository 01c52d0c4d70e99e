# Copyright (c) MMMixPro contributors.
from .mix_classifier import MixClassifier
from .pal_classifier import PALClassifier
from .smmix_classifier import SMMixClassifier

__all__ = ['MixClassifier', 'PALClassifier', 'SMMixClassifier']
