# Copyright (c) MMMixPro contributors.
"""The command lines that convert checkpoints, with files as others save them."""

import argparse
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from mmmixpro.utils import convert
from mmmixpro.utils.convert_file import CONVERTERS, from_ours, to_ours

TOOLS = Path(__file__).resolve().parents[2] / 'tools/model_converters'
HEADS = dict(vit='VisionTransformerClsHead')


@pytest.fixture
def made(backbone_cfg, redraw, tmp_path):
    """A config, and weights of its model."""

    def made(family, **kwargs):
        backbone = backbone_cfg(family, **kwargs)
        head = dict(type=HEADS.get(family, 'LinearClsHead'), num_classes=7, in_channels=32)
        config = tmp_path / f'{family}.py'
        config.write_text(f'model = dict(type="ImageClassifier", backbone={backbone!r}, head={head!r})')
        model = nn.ModuleDict(dict(backbone=MODELS.build(backbone), head=MODELS.build(head)))
        return str(config), redraw(model).state_dict()

    return made


@pytest.fixture
def save(tmp_path):
    def save(content, name='source.pth'):
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return save


@pytest.fixture
def tool(monkeypatch):
    def tool(name, *args):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        runpy.run_path(str(TOOLS / name), run_name='__main__')

    return tool


def same(path, expected):
    content = torch.load(path, weights_only=True)
    assert list(content) == ['state_dict']
    found = content['state_dict']
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    # And no tensor brings more than itself.
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in found.values())


@pytest.mark.parametrize(
    ('family', 'layout'), [('vit', 'timm'), ('cait', 'timm'), ('xcit', 'timm'), ('pvt', 'official'), ('pvt', 'mmdet')]
)
def test_there_and_back(family, layout, made, save, tool, tmp_path, capsys):
    config, weights = made(family)
    # As our runs save it: of SMMix, and with learnable labels.
    extra = {'token_head.fc.weight': torch.ones(7, 32), 'labels.factor': torch.ones(1)}
    ours = save(dict(state_dict={**weights, **extra}, meta={}, ema_state_dict={}))
    theirs = tmp_path / 'new/theirs.pth'
    tool('from_mmmixpro.py', config, ours, theirs, '--to', layout)
    assert 'unexpected, as declared: labels.factor, token_head.fc.weight' in capsys.readouterr().out
    if layout == 'mmdet':
        same(theirs, convert.pvt_to_mmdet(weights))
        return
    back = tmp_path / 'back.pth'
    tool('to_mmmixpro.py', config, theirs, back)
    same(back, weights)
    assert {path.name for path in tmp_path.rglob('*')} >= {'theirs.pth', 'back.pth'}
    assert not list(tmp_path.rglob('*.partial'))


def test_smmix_checkpoint(made, save, tmp_path):
    """With all that its script saves; the averaged weights there are initial ones."""
    config, weights = made('pvt')
    official = convert.pvt_to_official(weights)
    source = save(
        dict(
            model={**official, 'token_head.weight': torch.ones(7, 32), 'token_head.bias': torch.ones(7)},
            optimizer=dict(state={}, param_groups=[dict(lr=1e-3)]),
            lr_scheduler=dict(t=1),
            epoch=299,
            model_ema={name: torch.zeros_like(value) for name, value in official.items()},
            scaler={},
            args=argparse.Namespace(model='pvt_small', betas=(0.9, 0.999)),
        )
    )
    to_ours(config, source, str(tmp_path / 'ours.pth'))
    same(tmp_path / 'ours.pth', weights)


def test_swin_gives_the_shared_part(made, save, tmp_path):
    timm = pytest.importorskip('timm')
    config, weights = made('ca_swin', img_size=224, window_size=7)
    swin = timm.models.swin_transformer.SwinTransformer(
        num_classes=7, embed_dim=4, depths=(1, 1, 1, 2), num_heads=(1, 1, 2, 4)
    )
    report = to_ours(config, save(swin.state_dict()), str(tmp_path / 'ours.pth'))
    same(tmp_path / 'ours.pth', convert.ca_swin_from_timm(swin.state_dict()))
    assert 'missing, as declared: backbone.stages.0.blocks.0.attn.w_msa.relative_position_index' in report
    saved = torch.load(tmp_path / 'ours.pth', weights_only=True)['state_dict']
    lacking = {name for name in weights if name not in saved}
    learned = {name for name in lacking if not name.endswith('relative_position_index')}
    assert learned == {name for name in weights if name.startswith('backbone.stages.3.blocks.1.')}
    assert learned
    with pytest.raises(ValueError, match=r"CASwin .* for 'timm': it can be converted for no other library"):
        from_ours(config, save(dict(state_dict=weights), 'ca.pth'), str(tmp_path / 'x.pth'), 'timm')


def test_other_size(made, save, tmp_path):
    """Positions are kept as they are, for the model resizes them on loading."""
    _, weights = made('vit', img_size=96)
    config, _ = made('vit')
    report = to_ours(config, save(convert.vit_to_timm(weights)), str(tmp_path / 'ours.pth'))
    assert 'resized: backbone.pos_embed (1, 37, 32) -> (1, 17, 32)' in report
    same(tmp_path / 'ours.pth', weights)


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
        (lambda w: {**w, 'stem.weight': w['norm.bias']}, ValueError, r'unknown: stem\.weight'),
        (lambda w: dict(model_ema=w), ValueError, 'holds no weights'),
        (lambda w: dict(model=w, callback=Payload()), ValueError, 'carries code'),
    ],
    ids=['too_few_blocks', 'too_many_blocks', 'shape', 'unknown', 'only_ema', 'code'],
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
    with pytest.raises(FileNotFoundError, match='No checkpoint at'):
        to_ours(config, str(tmp_path / 'nowhere.pth'), target)
    with pytest.raises(FileNotFoundError, match=r"config, .*found no 'nowhere\.py'"):
        to_ours('nowhere.py', source, target)
    content = Path(source).read_bytes()
    Path(source).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match='is no checkpoint'):
        to_ours(config, source, target)
    Path(source).write_bytes(content)
    with pytest.raises(ValueError, match='would replace what it is made of'):
        to_ours(config, source, source)
    assert not Path(target).exists()


def test_what_may_differ_can_be_listed(made, save, tool, tmp_path):
    config, weights = made('vit')
    changed = convert.vit_to_timm(weights)
    changed['aux.weight'] = torch.zeros(1)
    del changed['head.weight'], changed['head.bias']
    listed = ['--allow-unexpected', 'aux.*', '--allow-missing', 'head.*']
    tool('to_mmmixpro.py', config, save(changed), tmp_path / 'ours.pth', *listed)
    same(tmp_path / 'ours.pth', {name: value for name, value in weights.items() if not name.startswith('head.')})
    ours = save(dict(state_dict={**weights, 'aux.weight': torch.zeros(1)}))
    with pytest.raises(ValueError, match=r'unexpected in the checkpoint \(1\): aux\.weight'):
        tool('from_mmmixpro.py', config, ours, tmp_path / 'theirs.pth', '--to', 'timm')
    tool('from_mmmixpro.py', config, ours, tmp_path / 'theirs.pth', '--to', 'timm', '--allow-unexpected', 'aux.*')
    same(tmp_path / 'theirs.pth', convert.vit_to_timm(weights))


def test_models_that_cannot_be_converted(made, save, tmp_path):
    config, weights = made('vit')
    source = save(dict(state_dict=weights))
    with pytest.raises(ValueError, match=r"VisionTransformer of .* for 'mmdet': .*\['timm'\].*\['PVT'\]"):
        from_ours(config, source, str(tmp_path / 'theirs.pth'), 'mmdet')
    other = tmp_path / 'other.py'
    for model, named in (
        (dict(backbone=dict(type='ResNet'), head=dict(type='LinearClsHead')), "backbone.*'CaiT'.*found 'ResNet'"),
        (dict(backbone=dict(type='PVT'), head=dict(type='ConformerHead')), "head.*'LinearClsHead'.*'ConformerHead'"),
        ({}, 'backbone.*found None'),
    ):
        other.write_text(f'model = {model!r}')
        with pytest.raises(ValueError, match=named):
            to_ours(str(other), source, str(tmp_path / 'ours.pth'))


def test_every_backbone_of_table_1_has_converters():
    folder = TOOLS.parents[1] / 'configs/_base_/models'
    from mmengine.config import Config

    stems = [
        f'{family}-{size}'
        for family, sizes in dict(deit='t s b', pvt='t s m l', cait='xxs24 xxs36', xcit='t24 s12 m24 l24').items()
        for size in sizes.split()
    ]
    for stem in [*stems, 'ca-swin-t', 'ca-swin-s']:
        assert Config.fromfile(folder / f'{stem}.py').model.backbone.type in CONVERTERS
