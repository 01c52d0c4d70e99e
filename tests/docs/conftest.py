# Copyright (c) MMMixPro contributors.
import sys

import pytest
from mmpretrain.registry import BATCH_AUGMENTS, MODELS

from mmmixpro.attention.base import PROVIDERS


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    """A folder on Python's path, whose modules and what they register are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for registry in (BATCH_AUGMENTS, MODELS):
        monkeypatch.setattr(registry, '_module_dict', dict(registry._module_dict))
    monkeypatch.setattr('mmmixpro.attention.base.PROVIDERS', dict(PROVIDERS))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], '__file__', None) and sys.modules[name].__file__.startswith(str(tmp_path)):
            del sys.modules[name]
