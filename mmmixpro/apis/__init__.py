# Copyright (c) MMMixPro contributors.
"""Models by the name of their config, loaded strictly, and what they make of an image.

Those of segmentation and detection need mmseg and mmdet: :class:`mmmixpro.apis.segmentation.SegInferencer` and
:class:`mmmixpro.apis.detection.DetInferencer`.
"""

from .classification import ClassificationInferencer
from .model import find_config, get_model, list_models

__all__ = ['ClassificationInferencer', 'find_config', 'get_model', 'list_models']
