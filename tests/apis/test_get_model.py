# Copyright (c) MMMixPro contributors.
"""Models by name, and only with weights that fit."""

from copy import deepcopy

import pytest
import torch
from mmengine import fileio
from mmengine.config import Config
from mmpretrain.apis import ModelHub
from mmpretrain.models import ImageClassifier

from mmmixpro.apis import find_config, get_model, list_models
from mmmixpro.apis.model import MIM
from mmmixpro.models import PALClassifier
from mmmixpro.utils.export import export

SMALL = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)),
    head=dict(in_channels=16, num_classes=3),
)


@pytest.fixture
def checkpoint(redraw, tmp_path):
    """What a run of 'mixpro/deit-t', made small, saves."""
    model = redraw(get_model('mixpro/deit-t', **SMALL))
    meta = dict(mmengine_version='0', dataset_meta=dict(classes=['ant', 'bee', 'cat']))
    torch.save(dict(state_dict={**model.state_dict(), 'labels.factor': torch.ones(1)}, meta=meta), tmp_path / 'x.pth')
    return str(tmp_path / 'x.pth')


def equal(model, checkpoint):
    weights = torch.load(checkpoint)['state_dict']
    return all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_every_leaf_has_a_name():
    names = list_models()
    leaves = [path for path in (MIM / 'configs').rglob('*.py') if '_base_' not in path.parts]
    assert len(names) == len(leaves) > 100
    assert {find_config(name) for name in names} == set(leaves)
    assert list_models('mixpro/deit-t') == ['mixpro/deit-t_8xb128_in1k']
    assert set(list_models('*/deit-t')) >= {'baseline/deit-t_8xb128_in1k', 'smmix/deit-t_8xb128_in1k'}
    assert [name for name in names if 'segmentation/' in name] and not [name for name in names if '_base_' in name]


def test_short_names():
    assert find_config('mixpro/deit-s') == MIM / 'configs/mixpro/deit-s_8xb128_in1k.py'
    assert find_config('pvt-s') == MIM / 'configs/baseline/pvt-s_8xb128_in1k.py'
    assert find_config('mixpro/deit-s_paper_8xb128_in1k').stem == 'deit-s_paper_8xb128_in1k'


@pytest.mark.parametrize(
    ('name', 'near'),
    [
        ('mixpro/deits', 'mixpro/deit-s_8xb128_in1k'),
        ('segmenter', 'segmentation/segmenter_deit'),
        ('dait', 'Similar'),
    ],
)
def test_unknown_names_get_similar_ones(name, near):
    with pytest.raises(ValueError, match=rf"No config is named '{name}'\. .*{near}.*list_models"):
        get_model(name)


def test_models_of_configs(tmp_path):
    model = get_model('mixpro/deit-t', **SMALL)
    assert isinstance(model, PALClassifier) and not model.training
    assert model._dataset_meta['classes'][0].startswith('tench')
    assert type(get_model('deit-t', **SMALL)) is ImageClassifier
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = 'mmmixpro::mixpro/deit-t_8xb128_in1k.py'")
    for mine in (path, str(path), Config.fromfile(path)):
        assert isinstance(get_model(mine, **SMALL), PALClassifier)
    assert model.extract_feat(torch.rand(1, 3, 224, 224))[-1].shape == (1, 16)
    with pytest.raises(ValueError, match=r"No config at 'nowhere\.py'"):
        get_model('nowhere.py')
    with pytest.raises(ValueError, match=r'a config of mmseg\. Take .*SegInferencer'):
        get_model('segmentation/linear_deit-s_8xb2-80k_pascal-context-480x480')


@pytest.mark.parametrize('name', ['mixpro/deit-t', 'deit-t', 'smmix/deit-t'])
def test_a_checkpoint_of_any_method(name, checkpoint):
    model = get_model(name, checkpoint, **SMALL)
    state = {key: value for key, value in model.state_dict().items() if not key.startswith('token_head.')}
    weights = torch.load(checkpoint)['state_dict']
    assert state.keys() == weights.keys() - {'labels.factor'}
    assert all(torch.equal(state[key], weights[key]) for key in state)
    assert model._dataset_meta == dict(classes=['ant', 'bee', 'cat'])


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_exported_files(checkpoint, tmp_path, suffix):
    config = tmp_path / 'mixpro.py'
    cfg = Config.fromfile(find_config('mixpro/deit-t'))
    cfg.merge_from_dict(dict(model=deepcopy(SMALL)))
    cfg.dump(config)
    whole, backbone = (str(tmp_path / f'{part}{suffix}') for part in ('classifier', 'backbone'))
    export(str(config), checkpoint, [whole], 'classifier')
    export(str(config), checkpoint, [backbone], 'backbone')
    model = get_model('mixpro/deit-t', whole, **SMALL)
    assert equal(model, checkpoint)
    assert model._dataset_meta == dict(classes=['ant', 'bee', 'cat'])
    with pytest.raises(ValueError, match=r'missing in the checkpoint \(2\): head\.'):
        get_model('mixpro/deit-t', backbone, **SMALL)
    assert equal(get_model('deit-t', backbone, **{**SMALL, 'head': None}), checkpoint)


def test_what_does_not_fit_is_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r'(?s)of another shape \(2\): head\.layers\.head\..*with this config'):
        get_model('deit-t', checkpoint, **{**SMALL, 'head': dict(in_channels=16, num_classes=4)})
    with pytest.raises(FileNotFoundError, match=r"No checkpoint at 'nowhere\.pth'"):
        get_model('deit-t', 'nowhere.pth', **SMALL)


def test_the_checkpoint_is_read_once(checkpoint, monkeypatch):
    read = []
    get = fileio.get
    monkeypatch.setattr(fileio, 'get', lambda path, **kwargs: read.append(path) or get(path, **kwargs))
    assert get_model('mixpro/deit-t', checkpoint, **SMALL)._dataset_meta['classes'] == ['ant', 'bee', 'cat']
    assert read == [checkpoint]


def test_published_weights(checkpoint, monkeypatch):
    with pytest.raises(ValueError, match=r'No weights are published for mixpro/deit-t_8xb128_in1k\. .*work_dirs'):
        get_model('mixpro/deit-t', pretrained=True, **SMALL)
    config = str(find_config('mixpro/deit-t'))
    entry = type('Entry', (), dict(config=config, weights=checkpoint))
    monkeypatch.setitem(ModelHub._models_dict, 'deit-tiny_mixpro', entry)
    assert equal(get_model('mixpro/deit-t', pretrained=True, **SMALL), checkpoint)
