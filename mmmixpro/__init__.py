# Copyright (c) MMMixPro contributors.
"""Mixing augmentations for Vision Transformers on OpenMMLab 2.x; importing it registers everything.

Segmentation and detection need mmseg and mmdet, which are not imported here.
"""

from .utils.compat import require
from .version import __version__

require('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain')

from mmengine.config.utils import MODULE2PACKAGE

# `_base_ = 'mmmixpro::...'` is resolved through this table, before a config's `custom_imports` run.
MODULE2PACKAGE['mmmixpro'] = 'mmmixpro'

from . import attention, datasets, engine, evaluation, labels, mixing, models, registry
from .utils import checkpoint
from .utils.model_index import register_models

__all__ = [
    '__version__',
    'attention',
    'checkpoint',
    'datasets',
    'engine',
    'evaluation',
    'labels',
    'mixing',
    'models',
    'registry',
]

register_models()
