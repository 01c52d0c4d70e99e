# Copyright (c) MMMixPro contributors.
"""Our classifiers in mmpretrain's list of models."""

from functools import cache
from pathlib import Path

from mmpretrain.apis import ModelHub

MIM = Path(__file__).resolve().parents[1] / '.mim'
# mmpretrain's get_model builds classifiers.
OTHER_TASKS = ('segmentation', 'detection')


@cache  # mmpretrain refuses a name that it knows
def register_models() -> None:
    """Let ``mmpretrain.list_models`` and ``mmpretrain.get_model`` know the classifiers of ``configs/*/metafile.yml``.

    Their names are those of :func:`mmmixpro.apis.list_models`: folder and stem.
    """
    for path in sorted(MIM.glob('configs/*/metafile.yml')):
        if path.parent.name not in OTHER_TASKS:
            ModelHub.register_model_index(path, config_prefix=MIM)
