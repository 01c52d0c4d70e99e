# Copyright (c) MMMixPro contributors.
"""CaiT by itself; tests/models/test_against_timm.py compares it with another implementation."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from oracles.resize import cubic

from mmmixpro.models import CaiT

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)


@pytest.fixture
def make(cait_cfg, redraw):
    def make(**kwargs):
        return redraw(MODELS.build(cait_cfg(**kwargs)))

    return make


# Millions with a head of 1000 classes: Table 3 of the paper.
@pytest.mark.parametrize(
    ('arch', 'millions'),
    [
        ('xxs24', 12.0),
        ('xxs36', 17.3),
        ('xs24', 26.6),
        ('xs36', 38.6),
        ('s24', 46.9),
        ('s36', 68.2),
        ('s48', 89.5),
        ('m24', 185.9),
        ('m36', 270.9),
    ],
)
def test_number_of_parameters(arch, millions):
    with torch.device('meta'):
        backbone = CaiT(arch)
    channels = backbone.norm.weight.numel()
    params = sum(p.numel() for p in backbone.parameters()) + 1000 * (channels + 1)
    assert params / 1e6 == pytest.approx(millions, rel=0.01)


def test_published_archs():
    """Heads of 48 channels, LayerScale by depth."""
    sizes = dict(
        xxs24=(192, 24, 4, 1e-5),
        xxs36=(192, 36, 4, 1e-5),
        xs24=(288, 24, 6, 1e-5),
        xs36=(288, 36, 6, 1e-6),
        s24=(384, 24, 8, 1e-5),
        s36=(384, 36, 8, 1e-6),
        s48=(384, 48, 8, 1e-6),
        m24=(768, 24, 16, 1e-5),
        m36=(768, 36, 16, 1e-6),
        m48=(768, 48, 16, 1e-6),
    )
    assert set(CaiT.arch_zoo) == set(sizes)
    for name, (embed_dims, num_layers, num_heads, layer_scale_init_value) in sizes.items():
        assert CaiT.arch_zoo[name] == dict(
            embed_dims=embed_dims,
            num_layers=num_layers,
            num_heads=num_heads,
            feedforward_channels=4 * embed_dims,
            layer_scale_init_value=layer_scale_init_value,
        )


@pytest.mark.parametrize(('num_layers', 'expected'), [(1, 0.1), (18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6)])
def test_layer_scale_goes_by_depth(num_layers, expected, cait_cfg):
    arch = dict(embed_dims=8, num_layers=num_layers, num_heads=2, feedforward_channels=8)
    for given, value in ((arch, expected), (dict(arch, layer_scale_init_value=0.5), 0.5)):
        backbone = MODELS.build(cait_cfg(arch=given))
        scales = [param for name, param in backbone.named_parameters() if 'gamma' in name]
        assert len(scales) == 2 * (num_layers + 2)
        assert all((param == value).all() for param in scales)


def test_drop_path_is_uniform_and_spares_class_attention(make):
    backbone = make(drop_path_rate=0.3)
    for layers, rate in ((backbone.layers, 0.3), (backbone.ca_layers, 0.0)):
        for layer in layers:
            assert layer.drop_path.drop_prob == layer.ffn.dropout_layer.drop_prob == rate
            assert type(layer.drop_path.drop_prob) is float
    images = torch.randn(4, 3, 64, 64)
    assert not torch.equal(backbone(images)[0], backbone(images)[0])
    backbone.eval()
    assert torch.equal(backbone(images)[0], backbone(images)[0])


@pytest.mark.parametrize('name', ['layers', 'ca_layers'])
def test_drop_path_skips_both_branches(name, make):
    """Of all samples, but for one in a million."""
    block = getattr(make(drop_path_rate=0.5), name)[0]
    for part in (block.drop_path, block.ffn.dropout_layer):
        part.drop_prob = 1 - 1e-6
    x = torch.randn(4, 5, 32)
    block.train()
    assert torch.equal(block(x), x)
    # Each of the two is of use.
    for part in (block.drop_path, block.ffn.dropout_layer):
        part.drop_prob = 0.0
        assert not torch.allclose(block(x), x, atol=1e-2)
        part.drop_prob = 1 - 1e-6


def test_initialisation(cait_cfg):
    arch = dict(embed_dims=192, num_layers=1, num_heads=4, feedforward_channels=768)
    backbone = MODELS.build(cait_cfg(arch=arch, img_size=224))
    for param in (backbone.cls_token, backbone.pos_embed):
        param.data.zero_()
    backbone.init_weights()
    for name, module in backbone.named_modules():
        if isinstance(module, torch.nn.Linear):
            # 16 weights between heads tell little of their spread.
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1 if module.in_features > 4 else 0.5), name
            assert not module.bias.any()
        if isinstance(module, torch.nn.LayerNorm):
            assert module.eps == 1e-6
            assert (module.weight == 1).all()
            assert not module.bias.any()
    for param in (backbone.cls_token, backbone.pos_embed):
        assert param.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize('size', [(64, 64), (96, 160)])
def test_out_types(size, make, cait_cfg):
    """All are of the same tokens: the class token first, then the map, row by row."""
    raw = make(out_type='raw', out_indices=(0, 1, 2, 3)).eval()
    h, w = size[0] // 16, size[1] // 16
    images = torch.randn(2, 3, *size)
    found = raw(images)
    assert [tokens.shape for tokens in found] == [(2, h * w + (i > 1), 32) for i in range(4)]
    # Class attention leaves the patches alone; the last goes through the norm.
    assert torch.equal(found[2][:, 1:], found[1])
    torch.testing.assert_close(found[3][:, 1:], raw.norm(found[1]))
    assert not torch.allclose(found[3][:, 0], raw.norm(found[2][:, 0]), atol=1e-2)

    def of(**kwargs):
        backbone = MODELS.build(cait_cfg(**kwargs)).eval()
        missing, unexpected = backbone.load_state_dict(raw.state_dict(), strict=False)
        assert not missing
        assert {name.split('.')[0] for name in unexpected} == (
            set() if backbone.with_cls_token else {'cls_token', 'ca_layers'}
        )
        return backbone(images)

    cls_tokens = of(out_indices=[2, -1])
    torch.testing.assert_close(cls_tokens, (found[2][:, 0], found[3][:, 0]))
    maps = of(out_type='featmap', out_indices=(0, 1))
    for tokens, featmap in zip((found[0], found[3][:, 1:]), maps, strict=True):
        torch.testing.assert_close(featmap, tokens.unflatten(1, (h, w)).permute(0, 3, 1, 2))
    (mean,) = of(out_type='avg_featmap')
    torch.testing.assert_close(mean, found[3][:, 1:].mean(1))


def test_layers_are_of_use_in_dense_models(make):
    """Every parameter learns, or distributed training would wait for it."""
    for out_type in CaiT.OUT_TYPES:
        backbone = make(out_type=out_type)
        backbone(torch.randn(2, 3, 64, 64))[-1].pow(2).sum().backward()
        assert all(param.grad is not None for param in backbone.parameters())


@pytest.mark.parametrize('frozen', [-1, 0, 1, 2, 3, 4])
def test_frozen_stages(frozen, make):
    backbone = make(frozen_stages=frozen)
    # From the start, for an optimizer that is built before the first epoch.
    assert backbone.patch_embed.projection.weight.requires_grad is (frozen < 0)
    assert backbone.train() is backbone
    assert backbone.pos_embed.requires_grad is (frozen < 0)
    assert backbone.cls_token.requires_grad is (frozen < 3)
    parts = [(backbone.patch_embed, 0), (backbone.norm, 4)]
    parts += [(layer, i + 1) for i, layer in enumerate([*backbone.layers, *backbone.ca_layers])]
    for part, stage in parts:
        assert all(module.training is (frozen < stage) for module in part.modules())
        assert all(param.requires_grad is (frozen < stage) for param in part.parameters())
    if frozen < 4:
        backbone(torch.randn(1, 3, 64, 64))[-1].sum().backward()
    assert backbone.eval() is backbone
    assert not any(module.training for module in backbone.modules())


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_layer_depth_rises_towards_the_head(prefix, make):
    backbone = make()
    depths = {name: backbone.get_layer_depth(prefix + name, prefix) for name, _ in backbone.named_parameters()}
    assert {total for _, total in depths.values()} == {6}
    for names, depth in (
        (('patch_embed', 'pos_embed'), 0),
        (('layers.0',), 1),
        (('layers.1', 'cls_token'), 2),
        (('ca_layers.0',), 3),
        (('ca_layers.1',), 4),
        (('norm',), 5),
    ):
        found = {depths.pop(name)[0] for name in list(depths) if name.startswith(names)}
        assert found == {depth}
    assert not depths
    if prefix:
        assert backbone.get_layer_depth('head.fc.weight', prefix) == (5, 6)


@pytest.mark.parametrize('img_size', [96, (64, 128), 64])
def test_position_embeddings_are_resized_on_loading(img_size, make, cait_cfg):
    source = make()
    state = {f'backbone.{name}': value.clone() for name, value in source.state_dict().items()}
    holder = torch.nn.Module()
    holder.backbone = MODELS.build(cait_cfg(img_size=img_size))
    before = {name: value.clone() for name, value in state.items()}
    holder.load_state_dict(state)
    assert all(torch.equal(state[name], before[name]) for name in before)  # the caller's stays
    h, w = (side // 16 for side in ((img_size, img_size) if isinstance(img_size, int) else img_size))
    grid = source.pos_embed[0].detach().double().numpy().reshape(4, 4, 32)
    expected = np.einsum('yi,xj,ijc->yxc', cubic(4, h), cubic(4, w), grid).reshape(h * w, 32)
    np.testing.assert_allclose(holder.backbone.pos_embed[0].detach(), expected, rtol=0, atol=1e-5)

    # And in passing, for images of another size than the model's.
    images = torch.randn(1, 3, h * 16, w * 16)
    torch.testing.assert_close(source.eval()(images), holder.backbone.eval()(images))


def test_checkpoint_of_images_that_are_not_square(make):
    """Of the same size: nothing to resize, as when training is resumed."""
    source, target = make(img_size=(64, 256)), make(img_size=(64, 256))
    target.load_state_dict(source.state_dict())
    assert torch.equal(source.pos_embed, target.pos_embed)
    with pytest.raises(ValueError, match=r'pos_embed .* has 8 positions, .*\(4, 4\).*img_size'):
        make().load_state_dict(make(img_size=(32, 64)).state_dict() | dict(pos_embed=torch.zeros(1, 8, 32)))


@pytest.mark.parametrize(
    ('kwargs', 'named'),
    [
        (dict(arch='xxs12'), "arch.*xxs24.*'xxs12'"),
        (dict(arch=dict(embed_dims=32)), 'num_layers'),
        (dict(arch=dict(ARCH, mlp_ratio=3)), "arch must be .*'layer_scale_init_value' if wanted.*mlp_ratio"),
        (dict(arch=dict(ARCH, num_heads=5)), 'embed_dims=32 must divide into num_heads=5'),
        (dict(drop_path_rate=1.5), r'drop_path_rate must be in \[0, 1\), got 1.5'),
        (dict(frozen_stages=5), 'frozen_stages must be from -1 to 4.*got 5'),
        (dict(cls_attn_layers=0), 'cls_attn_layers must be at least 1, got 0'),
        (dict(out_type='avg'), "out_type.*featmap.*'avg'"),
        (dict(img_size=72), 'img_size=72.*16 px'),
        (dict(out_indices=4), 'out_indices=4.*from 2 to 3'),
        (dict(out_indices=(0, 3)), r"\(0, 3\).*from 2 to 3 for out_type='cls_token'"),
        (dict(out_indices=()), r'out_indices=\(\)'),
        (dict(out_type='featmap', out_indices=2), 'from 0 to 1'),
    ],
)
def test_arguments_out_of_range_are_named(kwargs, named, cait_cfg):
    with pytest.raises(ValueError, match=named):
        MODELS.build(cait_cfg(**kwargs))
