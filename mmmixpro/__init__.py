# Copyright (c) MMMixPro contributors.
"""Mixing augmentations for Vision Transformers on OpenMMLab 2.x; importing it registers everything.

Segmentation and detection need mmseg and mmdet, which are not imported here.
"""

import sys
from pathlib import Path

from .version import __version__

# `python -m mmmixpro.doctor` and `mmmixpro doctor` import this file before the doctor, which must run where all below
# fails, and imports it itself once the rest is well. While `-m` looks for its module, `sys.argv` begins with it.
_runs_doctor = sys.argv[0] == '-m' and sys.orig_argv[-len(sys.argv)] == 'mmmixpro.doctor'
if not _runs_doctor and Path(sys.argv[0]).name != 'mmmixpro':
    from .utils.compat import require

    require('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain')

    from mmengine.config.utils import MODULE2PACKAGE

    # `_base_ = 'mmmixpro::...'` is resolved through this table, before a config's `custom_imports` run.
    MODULE2PACKAGE['mmmixpro'] = 'mmmixpro'

    from .utils import stacks

    stacks.level()

    from . import attention, datasets, engine, evaluation, labels, mixing, models, registry
    from .utils import checkpoint
    from .utils.model_index import register_models

    register_models()

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
