# Copyright (c) MMMixPro contributors.
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS


@pytest.fixture
def build(classifier_cfg, redraw):
    def build(**kwargs):
        model = redraw(MODELS.build(classifier_cfg(**kwargs)))
        model.head.layers.head.weight.data /= 4
        for mixer in model.mixers:
            mixer.init_weights()
        return model

    return build


@pytest.fixture
def learn():
    def learn(model, seed, size):
        """Loss and gradient norms of a step on images drawn from a seed."""
        np.random.seed(seed)
        torch.manual_seed(seed)
        images, scores = torch.randn(4, 3, *size), torch.eye(7)[:4]
        model.zero_grad()
        loss = model.loss(images, scores)['loss']
        loss.backward()
        return torch.stack([loss.detach(), *(param.grad.norm() for param in model.parameters())])

    return learn


def load_by_path(name, *parts):
    """A module of mmdet by its file: ``mmdet.models`` as a whole needs mmcv's compiled ops."""
    folder = Path(importlib.util.find_spec('mmdet').submodule_search_locations[0])
    loader = importlib.machinery.SourceFileLoader(name, str(folder.joinpath('models', *parts)))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def mmdet_pvt(monkeypatch):
    """mmdet's PVT, a module. Nothing of this stays in mmdet's registry or among the imported modules."""
    registry = pytest.importorskip('mmdet.registry')
    monkeypatch.setattr(registry.MODELS, '_module_dict', {})
    for name in ('mmdet_models', 'mmdet_models.backbones', 'mmdet_models.layers'):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    utils = load_by_path('mmdet_models.layers.utils', 'layers', 'transformer', 'utils.py')
    for name in ('PatchEmbed', 'nchw_to_nlc', 'nlc_to_nchw'):
        setattr(sys.modules['mmdet_models.layers'], name, getattr(utils, name))
    return load_by_path('mmdet_models.backbones.pvt', 'backbones', 'pvt.py')
