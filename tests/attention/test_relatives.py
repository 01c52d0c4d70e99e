# Copyright (c) MMMixPro contributors.
"""Attention of mmpretrain's other backbones and of timm's models, in passing."""

import inspect

import mmpretrain.models.backbones
import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn import functional as F

from mmmixpro.attention import (
    PatchAttention,
    class_attention,
    class_attention_of,
    patch_attention_of,
)
from mmmixpro.attention.base import PROVIDERS, REASONS
from mmmixpro.attention.relatives import NO_ATTENTION, NO_CLASS_TOKEN
from mmmixpro.engine.hooks import compile_parts

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
TIMM = dict(type='TIMMBackbone', img_size=(64, 96), embed_dim=32, num_heads=4)
# Of each backbone its config for 64 x 96 px, its last attention and the tokens before the patches.
CASES = {
    'distilled': (
        dict(type='DistilledVisionTransformer', arch=ARCH, img_size=(64, 96), patch_size=16),
        'layers.1.attn',
        2,
    ),
    'deit3': (dict(type='DeiT3', arch=ARCH, img_size=(64, 96), patch_size=16), 'layers.1.attn', 1),
    'beit': (dict(type='BEiTViT', arch=ARCH, img_size=(64, 96), out_type='cls_token'), 'layers.1.attn', 1),
    'beit_shared_bias': (
        dict(type='BEiTViT', arch=ARCH, img_size=(64, 96), out_type='cls_token', use_shared_rel_pos_bias=True,
             use_rel_pos_bias=False),
        'layers.1.attn',
        1,
    ),
    'eva02': (dict(type='ViTEVA02', arch=ARCH, img_size=64, patch_size=16, out_type='cls_token'), 'layers.1.attn', 1),
    't2t': (
        dict(type='T2T_ViT', img_size=64, embed_dims=32, num_layers=2, layer_cfgs=dict(num_heads=4),
             t2t_cfg=dict(token_dims=8, use_performer=False)),
        'encoder.1.attn',
        1,
    ),
    'tnt': (
        dict(type='TNT', img_size=(64, 96), qkv_bias=True, arch=dict(
            embed_dims_outer=32, embed_dims_inner=4, num_layers=2, num_heads_inner=2, num_heads_outer=4)),
        'layers.1.outer_block.attn.attn',
        1,
    ),
    'conformer': (
        dict(type='Conformer', base_channels=16,
             arch=dict(embed_dims=32, channel_ratio=1, num_heads=4, depths=3)),
        'conv_trans_3.trans_block.attn',
        1,
    ),
    'revvit': (
        dict(type='RevVisionTransformer', arch=ARCH, img_size=(64, 96), patch_size=16, with_cls_token=True,
             out_type='cls_token'),
        'layers.1.attn',
        1,
    ),
    'timm_vit': (dict(TIMM, model_name='vit_tiny_patch16_224', depth=2), 'timm_model.blocks.1.attn', 1),
    'timm_deit': (dict(TIMM, model_name='deit_tiny_patch16_224', depth=2), 'timm_model.blocks.1.attn', 1),
    'timm_distilled': (
        dict(TIMM, model_name='deit_tiny_distilled_patch16_224', depth=2), 'timm_model.blocks.1.attn', 2),
    'timm_registers': (
        dict(TIMM, model_name='vit_small_patch14_reg4_dinov2', depth=2, patch_size=16), 'timm_model.blocks.1.attn', 5),
    'timm_qk_norm': (
        dict(TIMM, model_name='vit_tiny_patch16_224', depth=2, qk_norm=True), 'timm_model.blocks.1.attn', 1),
    'timm_hybrid': (
        dict(TIMM, model_name='vit_tiny_r_s16_p8_224', patch_size=4, depth=2), 'timm_model.blocks.1.attn', 1),
    'timm_cait': (
        dict(TIMM, model_name='cait_xxs24_224', depth=2), 'timm_model.blocks_token_only.1.attn', 1),
    'timm_xcit': (
        dict(TIMM, model_name='xcit_tiny_12_p16_224', depth=2), 'timm_model.cls_attn_blocks.1.attn', 1),
}  # fmt: skip
# Their modules compute the attention, and with the precision of the model.
COMPUTED = ('beit', 'beit_shared_bias', 'eva02', 'tnt')
cases = pytest.mark.parametrize('name', CASES)


@pytest.fixture
def make(redraw):
    def make(name, **kwargs):
        cfg, attention, num_extra = CASES[name]
        if cfg['type'] == 'TIMMBackbone':
            pytest.importorskip('timm')
        backbone = redraw(MODELS.build({**cfg, **kwargs}))
        return backbone, backbone.get_submodule(attention), num_extra

    return make


def explicit(attn, x, backbone):
    """Attention of the class token in float64, over all tokens, from the input of the module and its weights."""
    if isinstance(attn, nn.MultiheadAttention):
        x = x.transpose(0, 1)
        q, k, _ = F.linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, -1)
    elif hasattr(attn, 'qkv'):
        bias = attn.qkv.bias
        if getattr(attn, 'q_bias', None) is not None:
            bias = torch.cat([attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias])
        q, k, _ = F.linear(x, attn.qkv.weight, bias).chunk(3, -1)
    else:
        q, k = (F.linear(x, layer.weight, layer.bias) for layer in (attn.q, attn.k))
    q, k = (tokens.unflatten(2, (attn.num_heads, -1)).transpose(1, 2) for tokens in (q, k))
    if hasattr(attn, 'q_norm'):
        q, k = attn.q_norm(q), attn.k_norm(k)
    if getattr(attn, 'rope', None) is not None:
        hw = backbone.seen_resolution
        q, k = (torch.cat([t[:, :, :1], attn.rope(t[:, :, 1:], hw)], 2) for t in (q, k))
    scale = q.size(-1) ** -0.5
    if type(backbone).__name__ == 'T2T_ViT':
        # As mmpretrain has it: its function divides by what it is given as scale.
        scale = 1 / scale
    logits = q.double() @ k.double().transpose(-2, -1) * scale
    for holder in (attn, getattr(backbone, 'rel_pos_bias', None)):
        table = getattr(holder, 'relative_position_bias_table', None)
        if table is not None:
            length = logits.size(-1)
            bias = table[holder.relative_position_index.flatten()].unflatten(0, (length, length))
            logits = logits + bias.permute(2, 0, 1).double()
    return logits.softmax(-1)[:, :, 0].mean(1)


def attributes_of(module):
    return [dict(vars(part)) for part in module.modules()]


def check_tap(backbone, attn, num_extra, images, precision=None):
    seen = []

    def see(module, args, kwargs):
        seen.append((args[0] if args else kwargs['query']).detach())
        if len(args) > 1 and isinstance(args[1], tuple):
            backbone.seen_resolution = args[1]

    handle = attn.register_forward_pre_hook(see, with_kwargs=True)
    with (
        torch.autocast('cpu', dtype=precision, enabled=precision is not None),
        class_attention(backbone, images.shape[-2:]) as tap,
    ):
        assert tap.map is None
        backbone(images)
    handle.remove()
    h, w = (side // 16 for side in images.shape[-2:])
    assert tap.map.shape == (len(images), h, w)
    assert tap.map.dtype == torch.float32
    assert not tap.map.requires_grad
    np.testing.assert_allclose(tap.map.sum((1, 2)), 1, rtol=0, atol=1e-5)
    with torch.no_grad(), torch.autocast('cpu', dtype=precision, enabled=precision is not None):
        patches = explicit(attn, seen[0], backbone)[:, num_extra:]
    expected = (patches / patches.sum(1, keepdim=True)).unflatten(1, (h, w))
    # Not everywhere the same, or the test could not tell one token from another.
    assert expected.std((1, 2)).min() > 2e-4
    return tap.map, expected


@pytest.mark.parametrize('case', ['train', 'eval', 'drop_path'])
@cases
def test_equals_explicit_softmax(name, case, make):
    backbone, attn, num_extra = make(name, drop_path_rate=0.5 if case == 'drop_path' else 0.0)
    assert class_attention_of(backbone).token_stride == 16
    backbone.train(case != 'eval')
    found, expected = check_tap(backbone, attn, num_extra, torch.randn(3, 3, 64, 96))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@cases
def test_autocast(name, make):
    backbone, attn, num_extra = make(name)
    found, expected = check_tap(backbone, attn, num_extra, torch.randn(3, 3, 64, 96), torch.bfloat16)
    rtol, atol = (3e-2, 1e-3) if name in COMPUTED else (0, 1e-5)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize('name', ['distilled', 'deit3', 'eva02', 't2t', 'conformer', 'revvit'])
def test_another_size_than_the_backbone_was_made_for(name, make):
    backbone, attn, num_extra = make(name)
    found, expected = check_tap(backbone, attn, num_extra, torch.randn(2, 3, 96, 32))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    refusal = pytest.raises(ValueError, match='72 x 64 px .*16 px')
    with refusal, class_attention(backbone, (72, 64)):
        pass


@pytest.mark.parametrize('training', [True, False])
@cases
def test_tap_changes_nothing(name, training, make):
    backbone, attn, _ = make(name)
    backbone.train(training)
    for module in backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.0
    images = torch.randn(2, 3, 64, 96)

    def class_token(feats):
        return feats[-1][-1] if isinstance(feats[-1], (list, tuple)) else feats[-1]

    with torch.no_grad():
        plain = class_token(backbone(images))
    keys, attributes = set(backbone.state_dict()), attributes_of(attn)
    with class_attention(backbone, (64, 96)) as tap:
        tapped = class_token(backbone(images))
        assert set(backbone.state_dict()) == keys
    assert torch.equal(plain, tapped)
    tapped.sum().backward()  # gradients pass as before
    assert any(p.grad is not None for p in attn.parameters())
    assert attributes_of(attn) == attributes
    before = tap.map.clone()
    backbone(images + 1)
    assert torch.equal(tap.map, before)


@cases
def test_restored_after_an_exception(name, make):
    backbone, attn, _ = make(name)
    backbone(torch.randn(2, 3, 64, 96))  # rotary positions are made anew for this size
    attributes = attributes_of(attn)

    def fail_in_forward():
        with class_attention(backbone, (64, 96)):
            backbone(torch.randn(1, 3, 64, 96))
            raise KeyError('in the forward pass')

    with pytest.raises(KeyError):
        fail_in_forward()
    assert attributes_of(attn) == attributes


# RevViT runs its layers in a function with a backward of its own, which torch.compile does not enter.
@pytest.mark.parametrize('name', [name for name in CASES if name != 'revvit'])
def test_compiled(name, make):
    torch._dynamo.reset()
    backbone, *_ = make(name)
    backbone.eval()
    images = torch.randn(2, 3, 64, 96)
    maps = []
    with torch.no_grad():
        for compiled in (False, True, True):
            if compiled and len(maps) == 1:
                compile_parts(nn.ModuleDict(dict(backbone=backbone)), backend='aot_eager')
                backbone(images)  # without the tap: what is compiled now must not stay
            with class_attention(backbone, (64, 96)) as tap:
                backbone(images + len(maps) // 2)
            maps.append(tap.map)
    torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=1e-5)
    # Each pass has a map of its own.
    assert not torch.allclose(maps[2], maps[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', ['distilled', 'deit3', 'beit', 'beit_shared_bias', 'eva02', 't2t', 'revvit'])
def test_attention_between_patches(name, make):
    """SMMix's: the mean over heads and patches; and the tokens that the class token stands among."""
    backbone, attn, num_extra = make(name)
    backbone.eval()
    images = torch.randn(2, 3, 64, 96)
    provider = patch_attention_of(backbone)
    with provider.patch_tap((64, 96)) as tap:
        plain = backbone(images)
    with class_attention(backbone, (64, 96)) as row:
        backbone(images)
    assert tap.map.shape == row.map.shape
    torch.testing.assert_close(tap.map.sum((1, 2)), torch.ones(2))
    assert (tap.map - row.map).abs().max() > 1e-3
    feats, tokens = provider.with_tokens(images)
    torch.testing.assert_close(feats, plain)
    assert tokens.shape == (2, 24, tokens.size(2))
    if name.startswith('beit') or name == 'eva02':
        # All queries but the class token's, in full.
        weights = []
        handle = attn.attn_drop.register_forward_pre_hook(lambda _, args: weights.append(args[0]))
        backbone(images)
        handle.remove()
        expected = weights[0][:, :, 1:, 1:].mean((1, 2))
        expected = expected / expected.sum(1, keepdim=True)
        torch.testing.assert_close(tap.map, expected.unflatten(1, (4, 6)), rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', ['tnt', 'conformer', 'timm_vit', 'timm_cait'])
def test_class_attention_alone(name, make):
    backbone, *_ = make(name)
    assert not isinstance(class_attention_of(backbone), PatchAttention)
    with pytest.raises(ValueError, match='gives class attention only'):
        patch_attention_of(backbone)


def test_every_backbone_of_mmpretrain_has_class_attention_or_a_reason():
    found = dict(inspect.getmembers(mmpretrain.models.backbones, inspect.isclass))
    assert len(found) > 50
    for name, backbone in found.items():
        with_provider = any(base in PROVIDERS for base in backbone.__mro__)
        assert with_provider != (backbone in REASONS), name
    assert set(NO_CLASS_TOKEN) | set(NO_ATTENTION) == {name for name, cls in found.items() if cls in REASONS}


def test_no_class_token_where_none_is_stated():
    """A look into their code: none of them has one."""
    for name in NO_CLASS_TOKEN:
        cls = getattr(mmpretrain.models.backbones, name)
        assert 'self.cls_token' not in inspect.getsource(inspect.getmodule(cls))


@pytest.mark.parametrize(
    ('name', 'kwargs', 'named'),
    [
        ('beit', dict(out_type='avg_featmap'), "BEiTViT with out_type='avg_featmap'"),
        ('eva02', dict(with_cls_token=False, out_type='avg_featmap'), 'ViTEVA02 without a class token'),
        ('t2t', dict(out_indices=[0]), r'T2T_ViT .*out_indices=\[0\]'),
        ('revvit', dict(with_cls_token=False, out_type='avg_featmap'), 'RevVisionTransformer without a class token'),
        ('revvit', dict(out_type='featmap'), "RevVisionTransformer with out_type='featmap'"),
        ('conformer', dict(with_cls_token=False), 'Conformer .*with_cls_token=False'),
        ('conformer', dict(out_indices=[2]), r'3 among out_indices.*\[2\]'),
        ('tnt', dict(attn_drop_rate=0.1), 'attn_drop_rate=0.1 .*Set attn_drop_rate=0'),
        ('timm_vit', dict(model_name='resnet18', img_size=None, embed_dim=None, num_heads=None),
         r"ResNet in TIMMBackbone .*\['Cait', 'VisionTransformer', 'Xcit'\].*subclass of TIMMBackbone.*CaiT"),
        ('timm_vit', dict(class_token=False, global_pool='avg'), 'VisionTransformer of timm .*no class token'),
        ('timm_vit', dict(attn_layer='diff'), 'VisionTransformer of timm .*blocks of another kind'),
    ],
)  # fmt: skip
def test_backbones_without_class_attention_are_refused(name, kwargs, named, make):
    cfg, *_ = CASES[name]
    cfg = {key: value for key, value in {**cfg, **kwargs}.items() if value is not None}
    if cfg['type'] == 'TIMMBackbone':
        pytest.importorskip('timm')
        if cfg['model_name'] == 'resnet18':
            cfg.pop('depth')
    with pytest.raises(ValueError, match=named):
        class_attention_of(MODELS.build(cfg))


@pytest.mark.parametrize('name', ['beit', 'timm_vit', 'timm_distilled', 'timm_cait'])
def test_trains_with_progressive_attention_labels(name, make, classifier_cfg, make_batch):
    backbone, *_ = make(name)
    augment = dict(type='MixProBatchAugment', mask_size=32)
    cfg = classifier_cfg(backbone=backbone, augments=[augment])
    cfg['head'] = dict(cfg['head'], type='LinearClsHead')
    if name in ('timm_vit', 'timm_cait'):
        cfg['neck'] = dict(type='ClsTokenNeck')
    model = MODELS.build(cfg)
    images, samples, _ = make_batch(4, size=(64, 96))
    loss = model.loss(images, samples)['loss']
    loss.backward()
    assert torch.isfinite(loss)
    assert any(param.grad.abs().max() > 0 for param in backbone.parameters() if param.grad is not None)


def test_neck_takes_tokens_alone():
    neck = MODELS.build(dict(type='ClsTokenNeck'))
    tokens = torch.randn(2, 5, 3)
    assert torch.equal(neck((tokens,))[0], tokens[:, 0])
    with pytest.raises(ValueError, match=r'expected tokens .* shape \(2, 3\)'):
        neck((tokens[:, 0],))
