# Copyright (c) MMMixPro contributors.
from .mix_classifier import MixClassifier
from .pal_classifier import PALClassifier
from .smmix_classifier import SMMixClassifier
from .tokenmix_classifier import TokenMixClassifier

__all__ = ['MixClassifier', 'PALClassifier', 'SMMixClassifier', 'TokenMixClassifier']
