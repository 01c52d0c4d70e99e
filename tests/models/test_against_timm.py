# Copyright (c) MMMixPro contributors.
"""Logits of timm's models, whose weights are converted, with every parameter drawn at random."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from mmmixpro.utils.convert import (
    cait_from_timm,
    cait_to_timm,
    vit_from_timm,
    vit_to_timm,
    xcit_from_timm,
    xcit_to_timm,
)

timm = pytest.importorskip('timm')
CONFIGS = Path(__file__).parents[2] / 'configs'
CONVERT = dict(deit=vit_from_timm, distilled=vit_from_timm, cait=cait_from_timm, xcit=xcit_from_timm)
BACK = dict(deit=vit_to_timm, distilled=vit_to_timm, cait=cait_to_timm, xcit=xcit_to_timm)
HEADS = dict(deit='VisionTransformerClsHead', distilled='DeiTClsHead')


def classifier(backbone, channels, head='LinearClsHead'):
    init_default_scope('mmpretrain')
    head = dict(type=head, num_classes=11, in_channels=channels)
    model = MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))
    model.eval()
    return model


def redraw_all(module, redraw):
    """Statistics of batch norms too."""
    redraw(module)
    for name, buffer in module.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_()
        if name.endswith('running_var'):
            buffer.uniform_(0.5, 2)
    return module.eval()


@pytest.fixture
def pair(redraw):
    """A classifier of ours and timm's model of the same weights."""

    def pair(family, size, **kwargs):
        if family in HEADS:
            settings = {**dict(embed_dim=32, depth=3, num_heads=4), **kwargs}
            kind = 'VisionTransformerDistilled' if family == 'distilled' else 'VisionTransformer'
            theirs = getattr(timm.models.deit, kind)(img_size=size, num_classes=11, **settings)
            arch = dict(
                embed_dims=settings['embed_dim'],
                num_layers=settings['depth'],
                num_heads=settings['num_heads'],
                feedforward_channels=4 * settings['embed_dim'],
            )
            kind = 'DistilledVisionTransformer' if family == 'distilled' else 'VisionTransformer'
            ours = dict(type=kind, arch=arch, img_size=size, patch_size=16)
        elif family == 'cait':
            settings = {**dict(embed_dim=32, depth=3, num_heads=4), **kwargs}
            theirs = timm.models.cait.Cait(img_size=size, num_classes=11, **settings)
            arch = dict(
                embed_dims=settings['embed_dim'],
                num_layers=settings['depth'],
                num_heads=settings['num_heads'],
                feedforward_channels=4 * settings['embed_dim'],
            )
            ours = dict(type='CaiT', arch=arch, img_size=size)
        else:
            settings = {**dict(embed_dim=32, depth=3, num_heads=4, tokens_norm=True), **kwargs}
            theirs = timm.models.xcit.Xcit(img_size=size, num_classes=11, **settings)
            settings['embed_dims'] = settings.pop('embed_dim')
            ours = dict(type='XCiT', img_size=size, **settings)
        ours = classifier(ours, ours.get('arch', ours)['embed_dims'], HEADS.get(family, 'LinearClsHead'))
        redraw_all(theirs, redraw)
        ours.load_state_dict(CONVERT[family](theirs.state_dict()))
        return ours, theirs

    return pair


@torch.no_grad()
def check_logits(ours, theirs, size):
    images = torch.randn(2, 3, *size)
    expected = theirs(images)
    assert expected.std() > 0.3
    torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-4)
    # The parity can fail: with two blocks exchanged it does.
    for name in ('layers', 'xca_layers', 'ca_layers'):
        layers = getattr(ours.backbone, name, None)
        if layers is not None:
            layers[0], layers[1] = layers[1], layers[0]
            assert (ours(images) - expected).abs().max() > 1e-2
            layers[0], layers[1] = layers[1], layers[0]


@pytest.mark.parametrize('size', [(224, 224), (96, 160)])
@pytest.mark.parametrize('family', CONVERT)
def test_small_models(family, size, pair):
    check_logits(*pair(family, size), size)


@pytest.mark.slow
@pytest.mark.parametrize('size', [(224, 224), (288, 288)])
@pytest.mark.parametrize(
    'name',
    ['deit_t', 'deit_s', 'deit_b', 'distilled_t', 'cait_xxs24', 'cait_xxs36', 'xcit_tiny_24', 'xcit_small_12'],
)
def test_published_models(name, size, pair):
    family = name.split('_')[0]
    kwargs = dict(
        deit_t=dict(embed_dim=192, depth=12, num_heads=3),
        deit_s=dict(embed_dim=384, depth=12, num_heads=6),
        deit_b=dict(embed_dim=768, depth=12, num_heads=12),
        distilled_t=dict(embed_dim=192, depth=12, num_heads=3),
        cait_xxs24=dict(embed_dim=192, depth=24, num_heads=4),
        cait_xxs36=dict(embed_dim=192, depth=36, num_heads=4),
        xcit_tiny_24=dict(embed_dim=192, depth=24, num_heads=4),
        xcit_small_12=dict(embed_dim=384, depth=12, num_heads=8),
    )[name]
    check_logits(*pair(family, size, **kwargs), size)


@pytest.mark.parametrize(
    ('model', 'name'),
    [
        ('deit-t', 'deit_tiny_patch16_224'),
        ('deit-s', 'deit_small_patch16_224'),
        ('deit-b', 'deit_base_patch16_224'),
        ('cait-xxs24', 'cait_xxs24_224'),
        ('cait-xxs36', 'cait_xxs36_224'),
        ('xcit-t24', 'xcit_tiny_24_p16_224'),
        ('xcit-s12', 'xcit_small_12_p16_224'),
        ('xcit-m24', 'xcit_medium_24_p16_224'),
        ('xcit-l24', 'xcit_large_24_p16_224'),
    ],
)
def test_models_of_the_configs(model, name, redraw):
    """Two layers of them: width, heads, norms, first LayerScale, and the spread of the first weights."""
    cfg = Config.fromfile(CONFIGS / f'baseline/{model}_8xb128_in1k.py').model
    if 'arch' in cfg.backbone:
        cfg.backbone.arch = dict(MODELS.get(cfg.backbone.type).arch_zoo[cfg.backbone.arch], num_layers=2)
    else:
        cfg.backbone.depth = 2
    init_default_scope('mmpretrain')
    ours, theirs = MODELS.build(cfg), timm.create_model(name, depth=2)
    ours.init_weights()
    family = model.split('-')[0]
    converted = CONVERT[family](theirs.state_dict())
    assert converted.keys() == ours.state_dict().keys()
    for key, value in ours.state_dict().items():
        if 'gamma' in key:
            assert torch.equal(value, converted[key])
        elif family != 'deit' and value.ndim == 2 and value.numel() > 1e4:  # mmpretrain's ViT has a rule of its own
            assert value.std().item() == pytest.approx(0.02, rel=0.05)
    redraw_all(theirs, redraw)
    ours.load_state_dict(CONVERT[family](theirs.state_dict()))
    check_logits(ours.eval(), theirs, (224, 224))


@pytest.mark.parametrize('name', ['cait_xxs24_224', 'cait_xxs36_224', 'cait_xs24_384', 'cait_s24_224', 'cait_s36_384'])
def test_published_archs(name):
    """LayerScale's first value, too."""
    theirs = timm.create_model(name)
    family, arch, size = name.split('_')
    ours = MODELS.build(dict(type='CaiT', arch=arch, img_size=int(size)))
    converted = cait_from_timm(theirs.state_dict())
    state = {f'backbone.{key}': value for key, value in ours.state_dict().items()}
    assert {key: value.shape for key, value in converted.items() if not key.startswith('head.')} == {
        key: value.shape for key, value in state.items()
    }
    for key in state:
        if 'gamma' in key:
            assert torch.equal(state[key], converted[key])


@pytest.mark.parametrize('family', CONVERT)
def test_there_and_back(family, pair):
    """To timm by the same names: each weight, and nothing else."""
    ours, theirs = pair(family, (64, 64))
    back = BACK[family](ours.state_dict())
    expected = theirs.state_dict()
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[name], expected[name]) for name in expected)
    # And of a classifier with another head.
    other = CONVERT[family](expected, head='head.other')
    assert 'head.other.weight' in other
    assert BACK[family](other, head='head.other').keys() == expected.keys()


def official_xcit(weights):
    """One layer for queries, keys and values of class attention, and one more letter."""
    official = {}
    for name, value in weights.items():
        stem, _, kind = name.rpartition('.')
        if name.startswith('cls_attn_blocks') and stem.endswith('attn.q'):
            parts = [weights[f'{stem[:-1]}{part}.{kind}'] for part in 'qkv']
            official[f'{stem[:-1]}qkv.{kind}'] = torch.cat(parts)
        elif not (name.startswith('cls_attn_blocks') and stem.endswith(('attn.k', 'attn.v'))):
            official[name.replace('pos_embed.', 'pos_embeder.')] = value
    return official


def test_official_xcit(pair):
    """As timm reads it."""
    ours, theirs = pair('xcit', (64, 64))
    official = official_xcit(theirs.state_dict())
    read = timm.models.xcit.checkpoint_filter_fn(dict(official), theirs)
    theirs.load_state_dict(read)  # all of it is
    converted = xcit_from_timm(official)
    expected = ours.state_dict()
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)


@pytest.mark.parametrize('family', CONVERT)
def test_unknown_weights_are_refused(family, pair):
    ours, theirs = pair(family, (64, 64))
    weights = dict(theirs.state_dict(), **{'blocks.0.extra': torch.zeros(1), 'token_head': torch.zeros(1)})
    with pytest.raises(ValueError, match=r'unknown: blocks\.0\.extra, token_head\. .*cls_token'):
        CONVERT[family](weights)
    assert CONVERT[family](weights, ignore=['blocks.?.extra', 'token_*']).keys() == ours.state_dict().keys()
    weights = dict(ours.state_dict(), **{'backbone.extra': torch.zeros(1)})
    with pytest.raises(ValueError, match=r'unknown: backbone\.extra'):
        BACK[family](weights)
    with pytest.raises(ValueError, match='0 of 0 weights'):
        CONVERT[family]({})
