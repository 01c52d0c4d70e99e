# Copyright (c) MMMixPro contributors.
"""Exported files: all the weights of the model and nothing that runs; or an error, and no file."""

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
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from safetensors import safe_open
from torch import nn

import mmmixpro
from mmmixpro.utils.export import export
from mmmixpro.utils.model_file import read_meta
from mmmixpro.utils.weights import load_weights

SUFFIXES = ['.pth', '.safetensors']
METHOD = 'PALClassifier, MixProBatchAugment 0.8, Mixup 0.2'
COMMIT = '0123456789abcdef' * 2 + '01234567'
RUN = dict(
    epoch=3,
    iter=24,
    seed=0,
    time='20250101_000500',
    experiment_name='deit_20250101_000000',
    mmengine_version='0.10.7' + COMMIT,
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
def save(tmp_path):
    def save(content, **kwargs):
        path = tmp_path / 'run' / 'epoch_3.pth'
        path.parent.mkdir(exist_ok=True)
        torch.save(content, path, **kwargs)
        return str(path)

    return save


def of_backbone(weights):
    return {key: value for key, value in weights.items() if key.startswith('backbone.')}


def equal(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize('part', ['backbone', 'classifier'])
def test_every_tensor_and_nothing_else(config, weights, save, tmp_path, part):
    source = save(dict(state_dict=OrderedDict(weights), meta=RUN, optimizer={}, message_hub={}))
    targets = [str(tmp_path / 'new' / f'{part}{suffix}') for suffix in SUFFIXES]
    report = export(config(), source, targets, part)
    expected = of_backbone(weights)
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
    assert read_meta(targets[0]) == content['meta']
    assert read_meta(targets[1]) == {**content['meta'], 'format': 'pt'}
    with safe_open(targets[1], 'pt') as file:
        assert file.metadata()['method'] == METHOD


def test_what_is_said_of_it(config, weights, save, tmp_path):
    source = save(dict(state_dict=weights, meta=RUN))
    log = tmp_path / 'run/20250101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    lines = [
        dict(lr=0.1, loss=1.0, **{'accuracy/top1': 99.0}, step=3),
        {'accuracy/top1': 50.0, 'data_time': 0.1, 'time': 0.2, 'step': 2},
        {'accuracy/top1': 73.5, 'accuracy/top5': 91.0, 'data_time': 0.1, 'time': 0.2, 'step': 3},
        {'accuracy/top1': 75.0, 'accuracy/top5': 92.0, 'data_time': 0.1, 'time': 0.2, 'step': 4},
    ]
    log.write_text('\n'.join(map(json.dumps, lines)))
    # A later run in the same folder has not saved this checkpoint.
    later = tmp_path / 'run/20250102_000000/vis_data/scalars.json'
    later.parent.mkdir(parents=True)
    later.write_text(json.dumps({'accuracy/top1': 1.0, 'step': 3}))
    target = str(tmp_path / 'x.pth')
    export(config(), source, [target])
    meta = read_meta(target)
    assert meta.pop('exported_with').keys() == {'mmmixpro', 'torch', 'mmcv', 'mmengine', 'mmpretrain'}
    assert meta == dict(
        config='mixpro/deit',
        method=METHOD,
        data='ImageNet train',
        epoch=3,
        iter=24,
        seed=0,
        time='20250101_000500',
        trained_with='mmengine 0.10.7',
        commit=COMMIT,
        dataset_meta=RUN['dataset_meta'],
        accuracy={'accuracy/top1': 73.5, 'accuracy/top5': 91.0},
        part='backbone',
        parameters=sum(value.numel() for value in of_backbone(weights).values()),
    )


def test_nothing_is_said_that_is_not_known(config, weights, save, tmp_path):
    target = str(tmp_path / 'x.pth')
    export(config(), save(dict(state_dict=weights, meta={**RUN, 'mmengine_version': '0.10.7'})), [target])
    assert not {'commit', 'accuracy'} & read_meta(target).keys()
    # Converted weights were not trained by the config.
    export(config(), save(dict(state_dict=weights)), [target])
    assert read_meta(target).keys() == {'config', 'exported_with', 'part', 'parameters'}


def test_backbones_of_other_libraries(weights, save, tmp_path, vit_cfg):
    """Of a segmentor the backbone alone is taken; what else it has stays behind."""
    config = tmp_path / 'segmentor.py'
    backbone = vit_cfg('mmpretrain.VisionTransformer')
    head = dict(type='FCNHead', in_channels=32, channels=32, num_classes=7)
    config.write_text(f"default_scope = 'mmseg'\nmodel = dict(backbone={backbone!r}, decode_head={head!r})")
    stored = {**of_backbone(weights), 'decode_head.conv_seg.bias': torch.ones(7)}
    target = str(tmp_path / 'x.pth')
    report = export(str(config), save(dict(state_dict=stored)), [target])
    assert 'unexpected, as declared: decode_head.conv_seg.bias.' in report
    assert equal(load_weights(target), of_backbone(weights))
    with pytest.raises(ValueError, match=r'unexpected in the checkpoint \(1\): auxiliary_head\.bias\n'):
        export(str(config), save(dict(state_dict={**stored, 'auxiliary_head.bias': torch.ones(7)})), [target])


def test_averaged_weights_are_taken(config, weights, save, tmp_path):
    others = {key: value + 1 for key, value in weights.items()}
    target = str(tmp_path / 'x.pth')
    export(config(), save(dict(state_dict=weights, ema_state_dict=others)), [target])
    assert equal(load_weights(target), of_backbone(weights))


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_init_cfg_loads_either_part(config, weights, save, tmp_path, vit_cfg, suffix):
    source = save(dict(state_dict=weights, meta=RUN))
    for part in ('backbone', 'classifier'):
        target = str(tmp_path / f'{part}{suffix}')
        export(config(), source, [target], part)
        init_cfg = dict(type='Pretrained', checkpoint=target, prefix='backbone.', strict=True)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            backbone = MODELS.build(vit_cfg(init_cfg=init_cfg))
        backbone.init_weights()
        assert equal({f'backbone.{key}': value for key, value in backbone.state_dict().items()}, of_backbone(weights))


def test_others_load_it(config, weights, save, tmp_path, vit_cfg):
    """A plain torch, mmengine's own loader, and mmpretrain's get_model, which names the classes too."""
    target = str(tmp_path / 'x.pth')
    export(config(), save(dict(state_dict=weights, meta=RUN)), [target], 'classifier')
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
    assert equal(backbone.state_dict(), of_backbone(weights))


class Payload:
    def __reduce__(self):
        return exec, ('raise SystemExit',)


def test_refused_and_nothing_is_written(config, weights, save, tmp_path):
    target = tmp_path / 'out' / 'x.pth'
    target.parent.mkdir()
    target.write_bytes(b'old')
    safe = str(target.with_suffix('.safetensors'))

    def refuse(content, match, cfg=None, part='classifier', truncate=None):
        source = save(content)
        if truncate:
            os.truncate(source, int(os.path.getsize(source) * truncate))
        with pytest.raises(ValueError, match=match) as error:
            export(cfg or config(), source, [str(target), safe], part)
        assert source in str(error.value)
        assert len(str(error.value)) < 2000
        assert target.read_bytes() == b'old'
        assert os.listdir(target.parent) == ['x.pth']
        return str(error.value)

    def without(*prefixes):
        return {key: value for key, value in weights.items() if not key.startswith(prefixes)}

    def renamed(old, new):
        return {re.sub(f'^{old}', new, key): value for key, value in weights.items()}

    mend = 'Give the config that the checkpoint was trained by'
    # A wrong prefix, another architecture, a head alone.
    found = refuse(dict(state_dict=renamed('', 'model.')), r'unexpected .*: model\.backbone\.cls_token')
    assert mend in found and 'missing in the checkpoint' in found and 'to_mmmixpro.py' in found
    assert mend in refuse(
        dict(state_dict=weights), r'of another shape .*: backbone\.', config('deeper', arch='deit-tiny')
    )
    assert mend in refuse(dict(state_dict=without('backbone.')), r'missing .*: backbone\.cls_token')
    assert mend in refuse(dict(state_dict=without('backbone.')), r'missing .*: backbone\.cls_token', part='backbone')
    assert mend in refuse(dict(state_dict=without('head.')), r'missing .* \(2\): head\.layers\.head\.bias')
    # Code, half a file, no weights.
    refuse(dict(state_dict=weights, meta=Payload()), 'carries code: it asks for .*exec.*save the weights alone')
    for share in (0.1, 0.5, 0.99):
        refuse(dict(state_dict=weights), 'is no checkpoint', truncate=share)
    refuse(dict(meta=RUN), "holds no weights: expected a dict of tensors.*'state_dict'")


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (lambda key, value: {}, r'missing in the checkpoint \(1\): {key}\n'),
        (
            lambda key, value: {f'{key}_': value},
            r'missing .* \(1\): {key}\n  unexpected in the checkpoint \(1\): {key}_\n',
        ),
        (lambda key, value: {key: value[..., :-1]}, r'of (another shape|a shape they cannot use) \(1\): {key} '),
    ],
    ids=['dropped', 'renamed', 'reshaped'],
)
def test_one_tensor(config, weights, save, tmp_path, change, match):
    cfg = config()
    target = tmp_path / 'out' / 'x.safetensors'
    for key in [key for key in weights if key.startswith(('head.', 'backbone.')) and '.layers.1' not in key]:
        changed = {k: v for k, v in weights.items() if k != key} | change(key, weights[key])
        with pytest.raises(ValueError, match=match.replace('{key}', re.escape(key))):
            export(cfg, save(dict(state_dict=changed)), [str(target)], 'classifier')
    assert not target.parent.exists()


def test_targets_and_configs_that_cannot_be(config, weights, save, tmp_path):
    source = save(dict(state_dict=weights))
    for target in (tmp_path, 'x.bin', 'x', 's3://bucket/x.pth', f'{source}/x.pth'):
        with pytest.raises(ValueError, match=r"name of a file to write|end in one of \['\.pth', '\.safetensors'\]"):
            export(config(), source, [str(tmp_path / 'fine.pth'), str(target)])
    with pytest.raises(ValueError, match=r"part must be one of \['backbone', 'classifier'\], got 'head'"):
        export(config(), source, [str(tmp_path / 'fine.pth')], 'head')
    with pytest.raises(ValueError, match='would replace what it is made of'):
        export(config(), source, [source])
    with pytest.raises(FileNotFoundError, match='Expected a config'):
        export('nowhere.py', source, [str(tmp_path / 'fine.pth')])
    with pytest.raises(FileNotFoundError, match='Give what training has saved'):
        export(config(), 'nowhere.pth', [str(tmp_path / 'fine.pth')])
    segmentor = tmp_path / 'segmentor.py'
    segmentor.write_text("model = dict(type='EncoderDecoder', backbone=dict(), decode_head=dict())")
    with pytest.raises(ValueError, match=r"with head, found \['backbone', 'decode_head', 'type'\]"):
        export(str(segmentor), source, [str(tmp_path / 'fine.pth')], 'classifier')
    assert not (tmp_path / 'fine.pth').exists()


def test_killed_while_writing(config, weights, save, tmp_path, monkeypatch):
    source = save(dict(state_dict=weights))
    target = tmp_path / 'out' / 'x.pth'
    export(config(), source, [str(target)])
    old = target.read_bytes()

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'replace', killed)
    with pytest.raises(KeyboardInterrupt):
        export(config(), source, [str(target)], 'classifier')
    assert target.read_bytes() == old


def test_command_line(config, weights, save, tmp_path, monkeypatch, capsys):
    tool = Path(mmmixpro.__file__).parents[1] / 'tools/export_backbone.py'
    targets = [str(tmp_path / f'x{suffix}') for suffix in SUFFIXES]
    argv = [str(tool), config(), save(dict(state_dict=weights)), *targets, '--part', 'classifier']
    monkeypatch.setattr(sys, 'argv', argv)
    runpy.run_path(str(tool), run_name='__main__')
    assert load_weights(targets[1]).keys() == {key for key in weights if key.startswith(('backbone.', 'head.'))}
    printed = capsys.readouterr().out
    assert 'unexpected, as declared: labels.factor, token_head.fc.weight' in printed and targets[1] in printed
