# Copyright (c) MMMixPro contributors.
"""Exported files: all the weights of the model and nothing that runs; which others load too."""

import json
import os
import re
import runpy
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine import fileio
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from safetensors import safe_open
from torch import nn

import mmmixpro
from mmmixpro.utils.export import export
from mmmixpro.utils.weights import load_weights, read_checkpoint

SUFFIXES = ['.pth', '.safetensors']


def equal(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize('part', ['backbone', 'classifier'])
def test_every_tensor_and_nothing_else(config, weights, meta, backbone_weights, save, tmp_path, part):
    source = save(dict(state_dict=OrderedDict(weights), meta=meta, optimizer={}, message_hub={}))
    targets = [str(tmp_path / 'new' / f'{part}{suffix}') for suffix in SUFFIXES]
    report = export(config(), source, targets, part)
    expected = backbone_weights
    if part == 'classifier':
        expected |= {key: value for key, value in weights.items() if key.startswith('head.')}
    assert f'{len(expected)} of {len(expected)} tensors matched; resized: none; missing, as declared: none' in report
    for target in targets:
        assert equal(load_weights(target), expected)
    assert sorted(os.listdir(tmp_path / 'new')) == [f'{part}.pth', f'{part}.safetensors']
    # No tensor brings more than itself, and there is nothing else than tensors and plain types.
    content = torch.load(targets[0], weights_only=True)
    assert list(content) == ['state_dict', 'meta']
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in content['state_dict'].values())
    assert json.loads(json.dumps(content['meta'])) == content['meta']
    # Both say the same.
    assert read_checkpoint(targets[0])[1] == content['meta']
    assert read_checkpoint(targets[1])[1] == {**content['meta'], 'format': 'pt'}
    with safe_open(targets[1], 'pt') as file:
        assert file.metadata()['method'] == content['meta']['method']


def test_backbones_of_other_libraries(backbone_weights, save, tmp_path, vit_cfg):
    """Of a segmentor the backbone alone is taken; what else it has stays behind."""
    config = tmp_path / 'segmentor.py'
    backbone = vit_cfg('mmpretrain.VisionTransformer')
    head = dict(type='FCNHead', in_channels=32, channels=32, num_classes=7)
    config.write_text(f"default_scope = 'mmseg'\nmodel = dict(backbone={backbone!r}, decode_head={head!r})")
    stored = {**backbone_weights, 'decode_head.conv_seg.bias': torch.ones(7)}
    target = str(tmp_path / 'x.pth')
    report = export(str(config), save(dict(state_dict=stored)), [target])
    assert 'unexpected, as declared: decode_head.conv_seg.bias.' in report
    assert equal(load_weights(target), backbone_weights)
    with pytest.raises(ValueError, match=r'unexpected in the checkpoint \(1\): auxiliary_head\.bias\n'):
        export(str(config), save(dict(state_dict={**stored, 'auxiliary_head.bias': torch.ones(7)})), [target])


def test_averaged_weights_are_taken(config, weights, backbone_weights, save, tmp_path):
    others = {key: value + 1 for key, value in weights.items()}
    target = str(tmp_path / 'x.pth')
    export(config(), save(dict(state_dict=weights, ema_state_dict=others)), [target])
    assert equal(load_weights(target), backbone_weights)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_init_cfg_loads_either_part(config, weights, meta, backbone_weights, save, tmp_path, vit_cfg, suffix):
    source = save(dict(state_dict=weights, meta=meta))
    for part in ('backbone', 'classifier'):
        target = str(tmp_path / f'{part}{suffix}')
        export(config(), source, [target], part)
        init_cfg = dict(type='Pretrained', checkpoint=target, prefix='backbone.', strict=True)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            backbone = MODELS.build(vit_cfg(init_cfg=init_cfg))
        backbone.init_weights()
        assert equal({f'backbone.{key}': value for key, value in backbone.state_dict().items()}, backbone_weights)


def test_others_load_it(config, weights, meta, backbone_weights, save, tmp_path, vit_cfg):
    """A plain torch, mmengine's own loader, and mmpretrain's get_model, which names the classes too."""
    target = str(tmp_path / 'x.pth')
    export(config(), save(dict(state_dict=weights, meta=meta)), [target], 'classifier')
    code = 'import sys, torch; print(*torch.load(sys.argv[1], weights_only=True)["state_dict"]); print(*sys.modules)'
    run = subprocess.run([sys.executable, '-c', code, target], capture_output=True, text=True, check=True)
    names, modules = run.stdout.splitlines()
    assert set(names.split()) == set(load_weights(target))
    assert not re.search(r'\bmm(engine|cv|pretrain|mixpro)\b', modules)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(target) == []

    stock = mmpretrain.get_model(config(), pretrained=target)
    assert stock._dataset_meta['classes'][0] == 'ant'
    assert equal(stock.state_dict(), load_weights(target))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = nn.ModuleDict(dict(backbone=MODELS.build(vit_cfg())))
    load_checkpoint(backbone, target)
    assert equal(backbone.state_dict(), backbone_weights)


def test_command_line(config, weights, save, tmp_path, monkeypatch, capsys):
    tool = Path(mmmixpro.__file__).parents[1] / 'tools/export_backbone.py'
    targets = [str(tmp_path / f'x{suffix}') for suffix in SUFFIXES]
    argv = [str(tool), config(), save(dict(state_dict=weights)), *targets, '--part', 'classifier']
    monkeypatch.setattr(sys, 'argv', argv)
    runpy.run_path(str(tool), run_name='__main__')
    assert load_weights(targets[1]).keys() == {key for key in weights if key.startswith(('backbone.', 'head.'))}
    printed = capsys.readouterr().out
    assert 'unexpected, as declared: labels.factor, token_head.fc.weight' in printed and targets[1] in printed


def test_the_checkpoint_is_read_once(config, weights, meta, save, tmp_path, monkeypatch):
    """It may be far away, and gigabytes."""
    read = []
    get = fileio.get
    monkeypatch.setattr(fileio, 'get', lambda path, **kwargs: read.append(path) or get(path, **kwargs))
    source = save(dict(state_dict=weights, meta=meta))
    export(config(), source, [str(tmp_path / f'x{suffix}') for suffix in SUFFIXES], 'classifier')
    assert read == [source]
