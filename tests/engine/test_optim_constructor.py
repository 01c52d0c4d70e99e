# Copyright (c) MMMixPro contributors.
"""Fewer parameter groups, the same steps."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.mark.parametrize('family', ['vit', 'pvt'])
def test_same_steps_from_fewer_groups(family, classifier_cfg, vit_cfg, pvt_cfg):
    init_default_scope('mmpretrain')
    backbone = dict(vit=vit_cfg, pvt=pvt_cfg)[family]()
    stock = MODELS.build(classifier_cfg(type='ImageClassifier', backbone=backbone, train_cfg=None))
    merged = copy.deepcopy(stock)
    cfg = Config.fromfile(CONFIGS / '_base_/schedules/imagenet_bs1024_adamw_300e.py').optim_wrapper
    # A parameter with settings of its own must keep them.
    cfg.paramwise_cfg.custom_keys['head'] = dict(lr_mult=10.0)
    cfg.clip_grad = None
    wrappers = []
    for model, constructor in ((stock, 'DefaultOptimWrapperConstructor'), (merged, 'MergedOptimWrapperConstructor')):
        wrappers.append(build_optim_wrapper(model, dict(cfg.to_dict(), constructor=constructor)))
    groups = [wrapper.optimizer.param_groups for wrapper in wrappers]
    assert len(groups[0]) == len(list(stock.parameters()))
    # With and without decay, the class token and position's, the head's.
    assert len(groups[1]) == 4
    settings = [{id(p): (g['lr'], g['weight_decay']) for g in groups[i] for p in g['params']} for i in (0, 1)]
    for own, other in zip(stock.parameters(), merged.parameters(), strict=True):
        assert settings[0][id(own)] == settings[1][id(other)]
        own.grad = torch.randn_like(own)
        other.grad = own.grad.clone()
    for wrapper in wrappers:
        wrapper.step()
    for own, other in zip(stock.parameters(), merged.parameters(), strict=True):
        assert torch.equal(own, other)


def test_shared_parameters_are_refused():
    """torch would only warn and update them twice."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight
    cfg = dict(
        optimizer=dict(type='SGD', lr=0.1, weight_decay=0.1),
        constructor='MergedOptimWrapperConstructor',
        paramwise_cfg=dict(bias_decay_mult=0.0),
    )
    init_default_scope('mmpretrain')
    with pytest.raises(ValueError, match='bypass_duplicate=True'):
        build_optim_wrapper(model, cfg)
    cfg['paramwise_cfg']['bypass_duplicate'] = True
    assert sum(len(group['params']) for group in build_optim_wrapper(model, cfg).optimizer.param_groups) == 3
