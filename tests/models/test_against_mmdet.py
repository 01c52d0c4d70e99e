# Copyright (c) MMMixPro contributors.
"""Weights of the official PVT, read as mmdet reads them, and weights of ours in mmdet's PVT."""

import re

import pytest
import torch
from mmpretrain.registry import MODELS

from mmmixpro.utils.convert import pvt_from_official, pvt_to_mmdet, pvt_to_official


def official_layout(depths, dims, mlp_ratio=2, sr_ratios=(8, 4, 2, 1), classes=11):
    """Weights of the official PVT, made up; its module list is at https://github.com/whai362/PVT."""
    shapes = {'cls_token': (1, 1, dims[3])}
    layers = {'norm': (dims[3],), 'head': (classes, dims[3])}
    for i, dim in enumerate(dims):
        shapes[f'pos_embed{i + 1}'] = (1, (16 >> i) ** 2 + (i == 3), dim)
        side = 2 if i else 4
        layers[f'patch_embed{i + 1}.proj'] = (dim, dims[i - 1] if i else 3, side, side)
        layers[f'patch_embed{i + 1}.norm'] = (dim,)
        for j in range(depths[i]):
            block = f'block{i + 1}.{j}.'
            layers.update({f'{block}norm1': (dim,), f'{block}norm2': (dim,), f'{block}attn.q': (dim, dim)})
            layers.update({f'{block}attn.kv': (2 * dim, dim), f'{block}attn.proj': (dim, dim)})
            layers.update({f'{block}mlp.fc1': (mlp_ratio * dim, dim), f'{block}mlp.fc2': (dim, mlp_ratio * dim)})
            if sr_ratios[i] > 1:
                layers.update({f'{block}attn.sr': (dim, dim, *2 * [sr_ratios[i]]), f'{block}attn.norm': (dim,)})
    for name, shape in layers.items():
        shapes.update({f'{name}.weight': shape, f'{name}.bias': shape[:1]})
    return {name: torch.randn(shape) / 4 for name, shape in shapes.items()}


@pytest.fixture
def models(mmdet_pvt, pvt_cfg):
    """A classifier of ours, our dense PVT, and mmdet's."""

    def models(depths=(1, 1, 1, 2)):
        cfg = pvt_cfg()
        arch = cfg['arch'] = dict(cfg['arch'], num_layers=list(depths))
        head = dict(type='LinearClsHead', num_classes=11, in_channels=32)
        ours = torch.nn.ModuleDict(dict(backbone=MODELS.build(cfg), head=MODELS.build(head)))
        dense = MODELS.build(dict(cfg, out_type='featmap'))
        settings = {name: arch[name] for name in ('num_layers', 'num_heads', 'mlp_ratios', 'sr_ratios')}
        theirs = mmdet_pvt.PyramidVisionTransformer(pretrain_img_size=64, embed_dims=8, **settings)
        for module in (ours, dense, theirs):
            module.eval()
        return ours, dense, theirs

    return models


def load_dense(dense, weights):
    """Without the class token."""
    backbone = {
        name.removeprefix('backbone.'): value for name, value in weights.items() if name.startswith('backbone.')
    }
    missing, unexpected = dense.load_state_dict(backbone, strict=False)
    assert not missing
    assert set(unexpected) == {'cls_token', 'norm.weight', 'norm.bias'}


@pytest.mark.parametrize('size', [(64, 64), (96, 160)])
def test_official_checkpoint(size, models, mmdet_pvt):
    ours, dense, theirs = models(depths=(1, 1, 2, 2))
    official = official_layout((1, 1, 2, 2), (8, 16, 24, 32))
    # mmdet drops the position of the class token for 7 x 7 tokens alone.
    without = dict(official, pos_embed4=official['pos_embed4'][:, 1:])
    theirs.load_state_dict(mmdet_pvt.pvt_convert(without))
    converted = pvt_from_official(official)
    ours.load_state_dict(converted)
    load_dense(dense, converted)
    images = torch.randn(2, 3, *size)
    expected = theirs(images)
    for found, theirs_map in zip(dense(images), expected, strict=True):
        assert theirs_map.std() > 0.1
        torch.testing.assert_close(found, theirs_map, rtol=0, atol=1e-4)
    for blocks in (dense.stages[2].blocks, dense.stages[3].blocks):
        blocks[0], blocks[1] = blocks[1], blocks[0]
        assert (dense(images)[3] - expected[3]).abs().max() > 1e-2
        blocks[0], blocks[1] = blocks[1], blocks[0]


@pytest.mark.parametrize('size', [(64, 64), (96, 160)])
def test_ours_in_mmdet(size, models, redraw):
    ours, dense, theirs = models()
    weights = redraw(ours).state_dict()
    load_dense(dense, weights)
    theirs.load_state_dict(pvt_to_mmdet(weights))
    images = torch.randn(2, 3, *size)
    for found, expected in zip(theirs(images), dense(images), strict=True):
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    # A dense model of ours has no class token in the first place.
    of_dense = pvt_to_mmdet({f'backbone.{name}': value for name, value in dense.state_dict().items()})
    assert all(torch.equal(of_dense[name], value) for name, value in theirs.state_dict().items())


def test_there_and_back(models):
    ours, *_ = models()
    official = official_layout((1, 1, 1, 2), (8, 16, 24, 32))
    weights = pvt_from_official(official)
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in ours.state_dict().items()
    }
    back = pvt_to_official(weights)
    assert back.keys() == official.keys()
    assert all(torch.equal(back[name], official[name]) for name in official)


def test_smmix_token_head_stays_behind(models):
    official = official_layout((1, 1, 1, 2), (8, 16, 24, 32))
    smmix = dict(official, **{'token_head.weight': torch.randn(11, 32), 'token_head.bias': torch.randn(11)})
    assert pvt_from_official(smmix).keys() == pvt_from_official(official).keys()


def test_unknown_weights_are_refused():
    official = official_layout((1, 1, 1, 2), (8, 16, 24, 32))
    weights = pvt_from_official(official)
    # Version 2 has a convolution in the FFN.
    official['block1.0.mlp.dwconv.dwconv.weight'] = torch.zeros(16, 1, 3, 3)
    with pytest.raises(ValueError, match=re.escape('unknown: block1.0.mlp.dwconv.dwconv.weight')):
        pvt_from_official(official)
    for back in (pvt_to_official, pvt_to_mmdet):
        with pytest.raises(ValueError, match='unknown: backbone.extra'):
            back({**weights, 'backbone.extra': torch.zeros(1)})
