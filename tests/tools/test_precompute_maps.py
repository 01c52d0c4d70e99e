# Copyright (c) MMMixPro contributors.
"""Activation maps from the tool to a training that reads them."""

import json
import shutil

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from oracles import tokenmix as oracle
from PIL import Image

from mmmixpro.datasets.content_maps import ContentMaps, ContentMapWriter

TEACHER = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=64),
)
LIVE = """
_base_ = 'tiny.py'
model = dict(
    type='MixClassifier',
    labels=dict(type='ContentLabels'),
    train_cfg=dict(
        augments=[dict(type='TokenMix', mask_size=8, min_block_tokens=2, teacher={teacher})], probs=[1.0]))
"""
PRECOMPUTED = """
_base_ = 'tiny.py'
model = dict(
    type='TokenMixClassifier',
    labels=dict(type='ContentLabels'),
    train_cfg=dict(augments=[dict(type='TokenMix', mask_size=8, min_block_tokens=2)], probs=[1.0]))
data_preprocessor = dict(type='ContentDataPreprocessor')
train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], type='TrackedRandomResizedCrop'),
    _base_.train_pipeline[2],
    dict(type='LoadContentMap', path='{maps}', size=4),
    dict(type='PackInputs', algorithm_keys=['content']),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=1)
"""
OPTIONS = ('--img-size', '96', '--batch-size', '5', '--num-workers', '0', '--device', 'cpu')


@pytest.fixture
def configs(tiny, redraw, tmp_path):
    """The folder of the configs, and their teacher."""
    torch.manual_seed(1)
    teacher = redraw(MODELS.build(dict(TEACHER, _scope_='mmpretrain'))).eval()
    torch.save(dict(state_dict=teacher.state_dict()), tiny.folder / 'teacher.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tiny.folder / 'teacher.pth'), strict=True)
    folder = tiny.folder / 'configs'
    (folder / 'live.py').write_text(LIVE.format(teacher=dict(TEACHER, init_cfg=init_cfg)))
    (folder / 'precomputed.py').write_text(PRECOMPUTED.format(maps=tmp_path / 'maps'))
    return folder, teacher


@pytest.fixture
def compute(tiny, configs, tmp_path):
    def compute(out='maps', config='live.py', options=()):
        tiny.tool('precompute_maps.py', configs[0] / config, '--out', tmp_path / out, *OPTIONS, *options)
        return ContentMaps(tmp_path / out)

    return compute


def test_from_images_to_training(tiny, configs, compute, capsys):
    maps = compute()
    assert f'32 maps: {maps.folder}' in capsys.readouterr().out
    assert maps.maps.shape == (32, 3, 3)
    tiny.tool('train.py', configs[0] / 'precomputed.py', '--work-dir', 'run')
    assert tiny.weights('run/epoch_1.pth')


def test_maps_are_the_oracles(tiny, configs, compute, tmp_path):
    _, teacher = configs
    # Of these folders the data set sees `a` first; by name `a-b/...` is before `a/...`.
    for old, new in (('a', 'a'), ('b', 'a-b')):
        shutil.copytree(tiny.folder / 'data/train' / old, tmp_path / 'data/train' / new)
    maps = compute(options=['--cfg-options', f'train_dataloader.dataset.data_root={tmp_path / "data"}'])
    weight, bias = teacher.head.fc.weight.detach().numpy(), teacher.head.fc.bias.detach().numpy()
    for name, label in (('a/a0.png', 0), ('a/a10.png', 0), ('a-b/b11.png', 1), ('a-b/b3.png', 1)):
        pixels = np.asarray(Image.open(tmp_path / 'data/train' / name).resize((96, 96), Image.BICUBIC))
        image = torch.tensor(pixels).permute(2, 0, 1)[None]
        features = teacher.backbone((image.float() - 127.5) / 127.5)[-1][0].detach().numpy()
        expected = oracle.activation(features, weight, bias, label, 5)
        np.testing.assert_allclose(maps[name], expected / max(expected.max(), 1e-9), atol=2e-3)


def test_goes_on_where_it_was_stopped(compute, monkeypatch, tmp_path):
    whole = compute().maps
    write = ContentMapWriter.write

    def stop(self, maps):
        if self.done >= 10:
            self.flush()
            raise RuntimeError('stopped')
        write(self, maps)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match='stopped'):
        patch.setattr(ContentMapWriter, 'write', stop)
        compute('stopped')
    assert json.loads((tmp_path / 'stopped/meta.json').read_text())['done'] == 10
    with pytest.raises(ValueError, match='maps of 10 of 32 images'):
        ContentMaps(tmp_path / 'stopped')
    written = []
    monkeypatch.setattr(ContentMapWriter, 'write', lambda self, maps: (written.append(len(maps)), write(self, maps)))
    np.testing.assert_array_equal(compute('stopped').maps, whole)
    assert sum(written) == 22
    compute('stopped')  # nothing is left to do
    assert sum(written) == 22
    with pytest.raises(ValueError, match="'img_size': 96.*expected those of 32 images .*'img_size': 64"):
        compute('stopped', options=['--img-size', '64'])


def test_config_without_a_teacher(compute):
    with pytest.raises(ValueError, match='precomputed.py has no TokenMix with a teacher'):
        compute(config='precomputed.py')


def test_training_without_maps(tiny, configs):
    with pytest.raises(FileNotFoundError, match=r"Expected activation maps in '.*maps', found none"):
        tiny.tool('train.py', configs[0] / 'precomputed.py')


def test_missing_images(compute):
    with pytest.raises(FileNotFoundError, match='train_dataloader: CustomDataset expects .*absent'):
        compute(options=['--cfg-options', 'train_dataloader.dataset.data_root=absent'])


def test_training_with_maps_of_other_images(tiny, configs, tmp_path):
    writer = ContentMapWriter(tmp_path / 'maps', [f'b/b{i}.png' for i in range(16)], {})
    writer.write(np.ones((16, 3, 3)))
    writer.flush()
    with pytest.raises(ValueError, match=r"has the maps of 16 images, none of '.*train/a/a0.png'.*precompute_maps.py"):
        tiny.tool('train.py', configs[0] / 'precomputed.py', '--work-dir', tmp_path / 'run')
