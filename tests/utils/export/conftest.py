# Copyright (c) MMMixPro contributors.
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope


@pytest.fixture
def meta():
    """What mmengine's runner says of a run."""
    commit = '0123456789abcdef' * 2 + '01234567'
    return dict(
        epoch=3,
        iter=24,
        seed=0,
        time='20250101_000500',
        experiment_name='deit_20250101_000000',
        mmengine_version='0.10.7' + commit,
        cfg='a = 1',
        dataset_meta=dict(classes=['ant', 'bee', 'cat', 'dog', 'eel', 'fox', 'gnu']),
    )


@pytest.fixture
def config(vit_cfg, classifier_cfg, tmp_path):
    """A config of a small classifier, in a folder named by its method."""

    def config(name='deit', **kwargs):
        augments = [dict(type='MixProBatchAugment', mask_size=16), dict(type='Mixup', alpha=0.8)]
        model = classifier_cfg(backbone=vit_cfg(**kwargs), augments=augments, probs=[0.8, 0.2])
        path = tmp_path / 'mixpro' / f'{name}.py'
        path.parent.mkdir(exist_ok=True)
        loader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(type='ImageNet', split='train')))
        path.write_text(f'model = {model!r}\ntrain_dataloader = {loader!r}\ntrain_cfg = dict(by_epoch=True)\n')
        return str(path)

    return config


@pytest.fixture
def weights(config, redraw):
    """What a run of that config saves, with labels of its own."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = redraw(MODELS.build(Config.fromfile(config()).model))
    return {**model.state_dict(), 'labels.factor': torch.ones(1), 'token_head.fc.weight': torch.ones(7, 32)}


@pytest.fixture
def backbone_weights(weights):
    return {key: value for key, value in weights.items() if key.startswith('backbone.')}


@pytest.fixture
def save(tmp_path):
    def save(content, **kwargs):
        path = tmp_path / 'run' / 'epoch_3.pth'
        path.parent.mkdir(exist_ok=True)
        torch.save(content, path, **kwargs)
        return str(path)

    return save
