# Copyright (c) MMMixPro contributors.
"""TokenMix's teacher: where its weights come from."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import BATCH_AUGMENTS, MODELS

from mmmixpro.mixing import TokenMix

LEAF = Path(__file__).parents[2] / 'configs/tokenmix/deit-t_8xb128_in1k.py'
RESNET = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=7, in_channels=64),
)


@pytest.fixture
def checkpoint(tmp_path, redraw):
    teacher = redraw(MODELS.build(RESNET))
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=teacher.state_dict()), path)
    return path, teacher


def test_weights_from_the_environment(monkeypatch, checkpoint):
    init_default_scope('mmpretrain')
    monkeypatch.delenv('TOKENMIX_TEACHER', raising=False)
    mixer = BATCH_AUGMENTS.build(Config.fromfile(LEAF).model.train_cfg.augments[0])
    with pytest.raises(FileNotFoundError, match=r'TokenMix has no weights.*data/resnet50_8xb32.*TOKENMIX_TEACHER'):
        mixer.init_weights()
    monkeypatch.setenv('TOKENMIX_TEACHER', str(checkpoint[0]))
    cfg = Config.fromfile(LEAF).model.train_cfg.augments[0]
    assert (cfg.mask_type, cfg.mask_size, cfg.mask_ratio, cfg.min_block_tokens) == ('block', 16, 0.5, 14)
    cfg.teacher.backbone.update(RESNET['backbone'])
    cfg.teacher.head.update(RESNET['head'])
    mixer = BATCH_AUGMENTS.build(cfg)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    mixer.init_weights()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    loaded = mixer.teacher.module.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in checkpoint[1].state_dict().items())


def test_strict_weights(checkpoint, tmp_path):
    weights = torch.load(checkpoint[0])['state_dict']
    del weights['head.fc.weight']
    torch.save(weights, tmp_path / 'other.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth'), strict=True)
    with pytest.raises(ValueError, match=r'missing in the checkpoint \(1\): head\.fc\.weight'):
        TokenMix(dict(RESNET, init_cfg=init)).init_weights()


def test_names_are_those_of_mmpretrains_checkpoint():
    """The teacher of the configs has the names that mmpretrain's checkpoint of the same model has."""
    init_default_scope('mmpretrain')
    teacher = copy.deepcopy(Config.fromfile(LEAF).model.train_cfg.augments[0].teacher)
    teacher.pop('init_cfg')
    names = MODELS.build(teacher).state_dict().keys()
    assert {'backbone.conv1.weight', 'head.fc.weight', 'head.fc.bias'} <= names
    assert {name.split('.')[0] for name in names} == {'backbone', 'head'}
