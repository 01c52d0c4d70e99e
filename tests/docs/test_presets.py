# Copyright (c) MMMixPro contributors.
"""The table of docs/configs.md, which the site computes of the configs."""

import importlib.util

import pytest
from pages import ROOT

pytest.importorskip('sphinx', reason='the extra `docs` is not installed')


@pytest.fixture
def presets():
    spec = importlib.util.spec_from_file_location('presets', ROOT / 'docs/extensions/presets.py')
    presets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(presets)
    return presets


def test_default_paper_official(presets):
    names = [f'mixpro/deit-s{kind}_8xb128_in1k.py' for kind in ('', '_paper', '_official')]
    found = dict(presets.differences([presets.load(name) for name in names]))
    loss = "{'type': 'LabelSmoothLoss', 'label_smooth_val': 0.1, 'mode': 'original'}"
    augment = 'model.train_cfg.augments[MixProBatchAugment]'
    assert found == {
        'model.backbone.patch_size': ['16', '16', '14'],
        'model.head.loss': [loss, loss, "{'type': 'CrossEntropyLoss', 'use_soft': True}"],
        'model.labels.detach_confidence': ['True', 'True', 'False'],
        'model.labels.label_smooth_val': ['0.0', '0.0', '0.1'],
        'model.labels.nearest': ['False', 'True', 'True'],
        f'{augment}.mask_size': ['64', '64', '56'],
        f'{augment}.rounding': ["'floor'", "'floor'", "'ceil'"],
        f'{augment}.lam': ["'area'", "'area'", "'count'"],
        f'{augment}.pairing': ["'random'", "'flip'", "'random'"],
    }


def test_what_is_absent_or_of_another_length(presets):
    first = dict(a=1, b=[1, 2], model=dict(type='Linear', x=1))
    second = dict(b=[1], c=None, model=dict(type='Conv', x=1))
    found = dict(presets.differences([first, second]))
    assert found == {
        'a': ['1', '-'],
        'b': ['[1, 2]', '[1]'],
        'c': ['-', 'None'],
        'model': ["{'type': 'Linear', 'x': 1}", "{'type': 'Conv', 'x': 1}"],
    }
