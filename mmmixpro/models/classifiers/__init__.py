# Copyright (c) MMMixPro contributors.
from .mix_classifier import MixClassifier
from .pal_classifier import PALClassifier

__all__ = ['MixClassifier', 'PALClassifier']
