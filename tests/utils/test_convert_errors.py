# Copyright (c) MMMixPro contributors.
"""What the converters of checkpoints refuse; a target that exists stays as it was."""

import os
from pathlib import Path

import pytest
import torch

from mmmixpro.utils import convert
from mmmixpro.utils.convert_file import from_ours, to_ours


class Payload:
    def __reduce__(self):
        return exec, ('raise SystemExit("ran")',)


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (lambda w: {k: v for k, v in w.items() if 'blocks.2' not in k}, ValueError, r'missing .*layers\.2\.attn'),
        (lambda w: {**w, 'blocks.4.norm1.bias': w['norm.bias']}, ValueError, r'unexpected .*layers\.4\.ln1\.bias'),
        (
            lambda w: {**w, 'norm.bias': torch.zeros(3)},
            ValueError,
            r'of another shape \(1\): backbone\.ln1\.bias \(3,\)',
        ),
        (lambda w: {**w, 'stem.weight': w['norm.bias']}, ValueError, r'unknown: stem\.weight\. .* may stay behind'),
        (lambda w: {**w, 'pos_embed': torch.zeros(1, 4, 32)}, ValueError, r'hooks failed .*\n.*\n.*\(allow-missing\)'),
        (lambda w: dict(model_ema=w), ValueError, 'holds no weights'),
        (lambda w: dict(model=w, callback=Payload()), ValueError, 'carries code'),
    ],
    ids=['too_few_blocks', 'too_many_blocks', 'shape', 'unknown', 'positions', 'only_ema', 'code'],
)
def test_wrong_sources(change, error, message, made, save, tmp_path):
    config, weights = made('vit')
    source = save(change(convert.vit_to_timm(weights)))
    target = tmp_path / 'ours.pth'
    target.write_text('as before')
    with pytest.raises(error, match=message):
        to_ours(config, source, str(target))
    assert target.read_text() == 'as before'


def test_files_that_cannot_be_read(made, save, tmp_path):
    config, weights = made('vit')
    target = str(tmp_path / 'ours.pth')
    source = save(convert.vit_to_timm(weights))
    for call in (to_ours, lambda *args: from_ours(*args, 'timm')):
        with pytest.raises(FileNotFoundError, match=r'No checkpoint at .*\. Give the file to convert\.$'):
            call(config, str(tmp_path / 'nowhere.pth'), target)
    with pytest.raises(FileNotFoundError, match=r"config, .*found no 'nowhere\.py'"):
        to_ours('nowhere.py', source, target)
    content = Path(source).read_bytes()
    Path(source).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match='is no checkpoint'):
        to_ours(config, source, target)
    assert not Path(target).exists()


def test_advice_for_ours(made, save, tmp_path):
    """Nothing of it may be missing, so that nothing says so."""
    config, weights = made('vit')
    del weights['backbone.ln1.bias']
    with pytest.raises(ValueError, match='allow-unexpected') as error:
        from_ours(config, save(dict(state_dict=weights)), str(tmp_path / 'x.pth'), 'timm')
    assert 'allow-missing' not in str(error.value)


@pytest.mark.parametrize('target', ['', 'folder', 's3://bucket/ours.pth', 'source.pth/ours.pth', '~'])
def test_targets_that_are_no_files(target, made, save, tmp_path, monkeypatch):
    """Refused before the source is read."""
    config, weights = made('vit')
    save(convert.vit_to_timm(weights))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder').mkdir()
    before = sorted(tmp_path.rglob('*'))
    for call in (to_ours, lambda *args: from_ours(*args, 'timm')):
        with pytest.raises(ValueError, match=f"Expected the name of a file to write, found '{target}'"):
            call(config, 'nowhere.pth', target)
    assert sorted(tmp_path.rglob('*')) == before


def test_home(made, save, tmp_path, monkeypatch):
    config, weights = made('vit')
    monkeypatch.setenv('HOME', str(tmp_path))
    save(convert.vit_to_timm(weights))
    for target in ('~/source.pth', str(tmp_path / 'source.pth')):
        with pytest.raises(ValueError, match='would replace what it is made of'):
            to_ours(config, '~/source.pth', target)
    to_ours(config, '~/source.pth', '~/new/ours.pth')
    assert torch.load(tmp_path / 'new/ours.pth')['state_dict'].keys() == weights.keys()


@pytest.mark.parametrize('call', ['fsync', 'replace'])
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_failing_writes_leave_the_old_file(suffix, call, made, save, tmp_path, monkeypatch):
    config, weights = made('vit')
    source = save(convert.vit_to_timm(weights))
    target = tmp_path / f'ours.{suffix}'
    target.write_text('as before')
    before = sorted(tmp_path.iterdir())

    def full(*args):
        raise OSError('no space')

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match='no space'):
        to_ours(config, source, str(target))
    assert target.read_text() == 'as before'
    assert sorted(tmp_path.iterdir()) == before


def test_models_that_cannot_be_converted(made, save, tmp_path):
    config, weights = made('vit')
    source = save(dict(state_dict=weights))
    with pytest.raises(ValueError, match=r"VisionTransformer of .* for 'mmdet': .*\['timm'\].*\['PVT'\]"):
        from_ours(config, source, str(tmp_path / 'theirs.pth'), 'mmdet')
    other = tmp_path / 'other.py'
    for model, named in (
        (dict(backbone=dict(type='ResNet'), head=dict(type='LinearClsHead')), "backbone.*'CaiT'.*found 'ResNet'"),
        (dict(backbone=dict(type='PVT'), head=dict(type='ConformerHead')), "head.*'LinearClsHead'.*'ConformerHead'"),
        (dict(backbone=dict(type='PVT'), head=None), 'head.*found None'),
        (dict(backbone=dict(type='Nowhere')), "backbone.*found 'Nowhere'"),
        ({}, 'backbone.*found None'),
    ):
        other.write_text(f'model = {model!r}')
        with pytest.raises(ValueError, match=named):
            to_ours(str(other), source, str(tmp_path / 'ours.pth'))


def test_names_that_become_one():
    weights = {name: torch.zeros(1) for name in ('head.fc.bias', 'head.bias')}
    with pytest.raises(ValueError, match=r'head\.bias is a second weight that becomes head\.fc\.bias'):
        convert.ca_swin_from_timm(weights)
