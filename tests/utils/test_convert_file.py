# Copyright (c) MMMixPro contributors.
"""The command lines that convert checkpoints, with files as others save them."""

import argparse
import re
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from mmmixpro.models import PVT
from mmmixpro.utils import convert
from mmmixpro.utils.convert_file import CONVERTERS, from_ours, to_ours

DISTILLED = dict(type='DistilledVisionTransformer', head='DeiTClsHead')


def same(path, expected):
    content = torch.load(path, weights_only=True)
    assert list(content) == ['state_dict']
    found = content['state_dict']
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    # And no tensor brings more than itself.
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in found.values())


@pytest.mark.parametrize(
    ('family', 'layout', 'kwargs'),
    [
        ('vit', 'timm', {}),
        ('vit', 'timm', DISTILLED),
        ('cait', 'timm', {}),
        ('xcit', 'timm', {}),
        ('pvt', 'official', {}),
        ('pvt', 'mmdet', {}),
    ],
)
def test_there_and_back(family, layout, kwargs, made, save, tool, tmp_path, capsys):
    config, weights = made(family, **kwargs)
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
    assert not list(tmp_path.rglob('*.partial'))


@pytest.mark.parametrize(('family', 'back'), [('vit', convert.vit_to_timm), ('pvt', convert.pvt_to_official)])
def test_smmix_checkpoint(family, back, made, save, tmp_path):
    """With all that its script saves; the averaged weights there are initial ones."""
    config, weights = made(family)
    official = back(weights)
    source = save(
        dict(
            model={**official, 'token_head.weight': torch.ones(7, 32), 'token_head.bias': torch.ones(7)},
            optimizer=dict(state={}, param_groups=[dict(lr=1e-3)]),
            lr_scheduler=dict(t=1),
            epoch=299,
            model_ema={name: torch.zeros_like(value) for name, value in official.items()},
            scaler={},
            args=argparse.Namespace(model='pvt_small', betas=(0.9, 0.999), output_dir=Path('runs')),
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
    shared = convert.ca_swin_from_timm(swin.state_dict())
    same(tmp_path / 'ours.pth', shared)
    block = {name for name in weights if name.startswith('backbone.stages.3.blocks.1.')}
    assert block == {name for name in weights if name not in shared and not name.endswith('relative_position_index')}
    (declared,) = re.findall('missing, as declared: (.*); unexp', report)
    assert set(declared.split(' and ')[0].split(', ')) <= block
    # Loaded as it says.
    assert 'that of class attention, stages.3.blocks.1.*, is not in' in report
    init_cfg = eval(re.search(r'add to the init_cfg of the backbone: (.*)', report)[1])
    backbone = MODELS.build(dict(Config.fromfile(config).model.backbone, init_cfg=init_cfg))
    backbone.init_weights()
    state = backbone.state_dict(prefix='backbone.')
    assert all(torch.equal(state[name], value) for name, value in shared.items() if name.startswith('backbone.'))
    with pytest.raises(ValueError, match=r"CASwin .* for 'timm': it can be converted for no other library"):
        from_ours(config, save(dict(state_dict=weights), 'ca.pth'), str(tmp_path / 'x.pth'), 'timm')


def test_swin_of_other_windows_and_with_positions(made, save, tmp_path):
    """Of the official layout, in which positions may be absolute."""
    timm = pytest.importorskip('timm')
    config, _ = made('ca_swin', use_abs_pos_embed=True)
    swin = timm.models.swin_transformer.SwinTransformer(
        img_size=128, window_size=4, num_classes=7, embed_dim=4, depths=(1, 1, 1, 2), num_heads=(1, 1, 2, 4)
    )
    positions = torch.randn(1, 256, 4)
    source = save(dict(model=dict(swin.state_dict(), absolute_pos_embed=positions)))
    report = to_ours(config, source, str(tmp_path / 'ours.pth'))
    assert 'w_msa.relative_position_bias_table (49, 1) -> (9, 1)' in report
    assert torch.equal(torch.load(tmp_path / 'ours.pth')['state_dict']['backbone.absolute_pos_embed'], positions)


def test_swin_without_class_token(made, save, tmp_path):
    """Lacks nothing; a weight that it should have is missed."""
    timm = pytest.importorskip('timm')
    config, _ = made('ca_swin', img_size=224, window_size=7, out_type='featmap')
    swin = timm.models.swin_transformer.SwinTransformer(
        num_classes=7, embed_dim=4, depths=(1, 1, 1, 2), num_heads=(1, 1, 2, 4)
    )
    weights = swin.state_dict()
    assert 'missing, as declared: none' in to_ours(config, save(weights), str(tmp_path / 'ours.pth'))
    lacking = {name: value for name, value in weights.items() if not name.startswith('layers.3.blocks.0.')}
    lacking['layers.3.blocks.1.norm1.bias'] = weights['layers.3.blocks.1.norm1.bias']
    with pytest.raises(ValueError, match=r'missing in the checkpoint \(14\): backbone\.stages\.3\.blocks\.0\.attn'):
        to_ours(config, save(lacking), str(tmp_path / 'ours.pth'))


def test_other_size(made, save, tmp_path):
    """Positions are kept as they are, for the model resizes them on loading."""
    _, weights = made('vit', img_size=96)
    config, _ = made('vit')
    report = to_ours(config, save(convert.vit_to_timm(weights)), str(tmp_path / 'ours.pth'))
    assert 'resized: backbone.pos_embed (1, 37, 32) -> (1, 17, 32)' in report
    same(tmp_path / 'ours.pth', weights)


@pytest.mark.parametrize('listed', ['head.*', 'head.layers.*'], ids=['their name', 'ours'])
def test_other_classes(listed, made, save, tool, tmp_path):
    _, weights = made('vit', num_classes=10)
    config, _ = made('vit')
    source, target = save(convert.vit_to_timm(weights)), tmp_path / 'ours.pth'
    with pytest.raises(ValueError, match=r'head\.layers\.head\.bias \(10,\) -> \(7,\).*\n.*allow-missing.*allow-unexp'):
        tool('to_mmmixpro.py', config, source, target)
    tool('to_mmmixpro.py', config, source, target, '--allow-unexpected', listed, '--allow-missing', 'head.*')
    same(target, {name: value for name, value in weights.items() if not name.startswith('head.')})


def test_without_distillation(made, save, tool, tmp_path):
    """The token goes, and so does its position."""
    _, weights = made('vit', **DISTILLED)
    config, plain = made('vit')
    source, target = save(convert.vit_to_timm(weights)), tmp_path / 'ours.pth'
    tool('to_mmmixpro.py', config, source, target, '--allow-unexpected', 'dist_token', 'head_dist.*')
    positions = weights['backbone.pos_embed'][:, [0, *range(2, 18)]]
    same(target, {**{name: weights[name] for name in plain}, 'backbone.pos_embed': positions})


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
    _, weights = made('pvt')
    assert 'layers.3.1.0.pos_embed' not in convert.pvt_to_mmdet(weights, ignore=['backbone.stages.3.pos_embed'])


def test_safetensors(made, save, tmp_path):
    """As timm's models are published, and back, of a run with ``channels_last``, too."""
    config, weights = made('vit')
    theirs = convert.vit_to_timm(weights)
    source, ours, back = (str(tmp_path / f'{name}.safetensors') for name in ('source', 'ours', 'back'))
    safetensors.torch.save_file(theirs, source)
    to_ours(config, source, ours)
    from_ours(config, ours, back, 'timm')
    kernel = 'backbone.patch_embed.projection.weight'
    run = {**weights, kernel: weights[kernel].contiguous(memory_format=torch.channels_last)}
    from_ours(config, save(dict(state_dict=run)), back, 'timm')
    for path, expected in ((ours, weights), (back, theirs)):
        found = safetensors.torch.load_file(path)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        with safetensors.safe_open(path, 'pt') as file:
            assert file.metadata() == dict(format='pt')
    init_cfg = dict(type='Pretrained', checkpoint=ours, prefix='backbone', strict=True)
    backbone = MODELS.build(dict(Config.fromfile(config).model.backbone, init_cfg=init_cfg))
    backbone.init_weights()
    assert torch.equal(backbone.pos_embed, weights['backbone.pos_embed'])


@MODELS.register_module()
class PVTOfSomeone(PVT):
    pass


@pytest.mark.parametrize(
    'change',
    [
        lambda text: text.replace("'PVT'", "'mmpretrain.PVT'").replace("'LinearClsHead'", "'mmpretrain.LinearClsHead'"),
        lambda text: text.replace("'PVT'", "'PVTOfSomeone'"),
        lambda text: (
            'from mmpretrain.models import LinearClsHead\nfrom mmmixpro.models import PVT\n'
            + text.replace("'PVT'", 'PVT').replace("'LinearClsHead'", 'LinearClsHead')
        ),
        # Nor are weights that the config names.
        lambda text: text.replace("'PVT'", "'PVT', init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth')"),
    ],
    ids=['scope', 'subclass', 'classes', 'pretrained'],
)
def test_how_configs_name_models(change, made, save, tmp_path):
    config, weights = made('pvt')
    text = re.sub(r"\{'type': ('\w+'), (.*?)\}, head=", r'dict(type=\1, **{\2}), head=', Path(config).read_text())
    text = re.sub(r"head=\{'type': ('\w+'), (.*)\}", r'head=dict(type=\1, **{\2})', text)
    Path(config).write_text(change(text))
    init_default_scope('mmseg')  # whatever else goes on in this process
    to_ours(config, save(convert.pvt_to_official(weights)), str(tmp_path / 'ours.pth'))
    same(tmp_path / 'ours.pth', weights)


def test_every_backbone_of_table_1_has_converters():
    stems = [
        f'{family}-{size}'
        for family, sizes in dict(deit='t s b', pvt='t s m l', cait='xxs24 xxs36', xcit='t24 s12 m24 l24').items()
        for size in sizes.split()
    ]
    folder = Path(__file__).resolve().parents[2] / 'configs/_base_/models'
    for stem in [*stems, 'ca-swin-t', 'ca-swin-s']:
        assert Config.fromfile(folder / f'{stem}.py').model.backbone.type in CONVERTERS
