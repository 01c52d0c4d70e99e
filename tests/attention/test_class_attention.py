# Copyright (c) MMMixPro contributors.
import copy

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from oracles import attention as oracle
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from mmmixpro.attention import class_attention, class_attention_of
from mmmixpro.engine.hooks import compile_parts

# Config of a backbone and its tokens before the patches.
VITS = {
    'vit': (dict(), 1),
    'deit_distilled': (dict(type='DistilledVisionTransformer'), 2),
    'deit3': (dict(type='DeiT3'), 1),
    'clip': (dict(pre_norm=True), 1),
    'dinov2': (dict(layer_scale_init_value=0.5, layer_cfgs=dict(ffn_type='swiglu_fused')), 1),
    'moco_v3': (dict(type='MoCoV3ViT', stop_grad_conv1=True), 1),
    'all_maps': (dict(out_indices=[0, 1, 2, 3]), 1),
    'overlapping_patches': (dict(patch_cfg=dict(stride=8)), 1),
}


def last_attention(backbone):
    return backbone.layers[-1].attn if hasattr(backbone, 'layers') else backbone.stages[-1].blocks[-1].attn


def explicit_map(attn, seen, num_extra, h, w):
    """Full softmax attention in NumPy, from the outputs of the module's own linear layers."""
    q, k = (('qkv', 0, 3), ('qkv', 1, 3)) if 'qkv' in seen else (('q', 0, 1), ('kv', 0, 2))
    maps = []
    for i in range(len(seen[q[0]])):
        query, key = (
            oracle.split_heads(seen[layer][i].double().numpy(), attn.num_heads, part, parts)
            for layer, part, parts in (q, k)
        )
        maps.append(oracle.class_row(oracle.full_attention(query, key), num_extra, h, w))
    return np.array(maps)


def watch(attn):
    seen = {}
    for name in ('qkv', 'q', 'kv'):
        if hasattr(attn, name):
            getattr(attn, name).register_forward_hook(lambda _, args, out, name=name: seen.update({name: out.detach()}))
    return seen


def check_tap(backbone, images, num_extra, stride, precision=None):
    seen = watch(last_attention(backbone))
    with (
        torch.autocast('cpu', dtype=precision, enabled=precision is not None),
        class_attention(backbone, images.shape[-2:]) as tap,
    ):
        assert tap.map is None
        backbone(images)
    h, w = (-(-side // stride) for side in images.shape[-2:])
    assert tap.map.shape == (len(images), h, w)
    assert tap.map.dtype == torch.float32
    assert not tap.map.requires_grad
    np.testing.assert_allclose(tap.map.sum((1, 2)), 1, rtol=0, atol=1e-5)
    attn = last_attention(backbone)
    np.testing.assert_allclose(tap.map, explicit_map(attn, seen, num_extra, h, w), rtol=0, atol=1e-5)
    # Not everywhere the same, or the test could not tell one token from another.
    assert tap.map.std((1, 2)).min() > 1e-3


@pytest.mark.parametrize('name', VITS)
def test_equals_explicit_softmax(name, vit_cfg, redraw):
    cfg, num_extra = VITS[name]
    backbone = redraw(MODELS.build(vit_cfg(**cfg)))
    backbone.train()
    stride = cfg.get('patch_cfg', {}).get('stride', 16)
    assert class_attention_of(backbone).token_stride == stride
    check_tap(backbone, torch.randn(2, 3, 64, 64), num_extra, stride)


def test_pvt_equals_explicit_softmax(pvt_cfg, redraw):
    backbone = redraw(MODELS.build(pvt_cfg()))
    assert class_attention_of(backbone).token_stride == 32
    check_tap(backbone, torch.randn(2, 3, 64, 64), 1, 32)


@pytest.mark.parametrize('case', ['eval', 'drop_path', 'bf16', 'bf16_model', 'float64'])
@pytest.mark.parametrize('family', ['vit', 'pvt'])
def test_in_every_mode(family, case, vit_cfg, pvt_cfg, redraw):
    drop_path_rate = 0.5 if case == 'drop_path' else 0.0
    cfg = dict(vit=vit_cfg, pvt=pvt_cfg)[family](drop_path_rate=drop_path_rate)
    backbone = redraw(MODELS.build(cfg))
    backbone.train(case != 'eval')
    dtype = dict(bf16_model=torch.bfloat16, float64=torch.float64).get(case, torch.float32)
    images = torch.randn(3, 3, 64, 64, dtype=dtype)
    stride = dict(vit=16, pvt=32)[family]
    check_tap(backbone.to(dtype), images, 1, stride, torch.bfloat16 if case == 'bf16' else None)


@pytest.mark.parametrize('case', ['train', 'eval', 'bf16'])
@pytest.mark.parametrize('family', ['vit', 'pvt'])
def test_compiled(family, case, backbone_cfg, redraw):
    """In one graph; tests/engine/test_compile.py has the steps with and without."""
    torch._dynamo.reset()
    backbone = redraw(MODELS.build(backbone_cfg(family, drop_path_rate=0.5)))
    backbone.train(case != 'eval')
    counter = CompileCounterWithBackend('aot_eager')
    compile_parts(nn.ModuleDict(dict(backbone=backbone)), backend=counter, fullgraph=True)
    stride = dict(vit=16, pvt=32)[family]
    check_tap(backbone, torch.randn(2, 3, 64, 64), 1, stride, torch.bfloat16 if case == 'bf16' else None)
    assert counter.frame_count == 1


def test_attention_dropout_is_not_part_of_it(vit_cfg, redraw):
    backbone = redraw(MODELS.build(vit_cfg(layer_cfgs=dict(attn_drop_rate=0.5))))
    check_tap(backbone, torch.randn(2, 3, 64, 64), 1, 16)


@pytest.mark.parametrize('size', [(32, 64), (96, 32), (64, 160)])
@pytest.mark.parametrize('family', ['vit', 'pvt'])
def test_other_sizes_than_the_backbone_was_made_for(family, size, vit_cfg, pvt_cfg, redraw):
    backbone = redraw(MODELS.build(dict(vit=vit_cfg, pvt=pvt_cfg)[family]()))
    check_tap(backbone, torch.randn(2, 3, *size), 1, dict(vit=16, pvt=32)[family])


@pytest.mark.parametrize('family', ['vit', 'pvt'])
def test_tap_changes_nothing(family, vit_cfg, pvt_cfg, redraw):
    backbone = redraw(MODELS.build(dict(vit=vit_cfg, pvt=pvt_cfg)[family]()))
    backbone.eval()
    attn = last_attention(backbone)
    images = torch.randn(2, 3, 64, 64)
    function, keys, attributes = attn.scaled_dot_product_attention, set(backbone.state_dict()), set(vars(attn))
    with torch.no_grad():
        plain = backbone(images)[-1]
    with class_attention(backbone, (64, 64)) as tap:
        tapped = backbone(images)[-1]
        assert set(backbone.state_dict()) == keys
    assert torch.equal(plain, tapped)
    tapped.sum().backward()  # gradients pass as before
    assert all(p.grad is not None for p in attn.parameters())

    assert attn.scaled_dot_product_attention is function
    assert set(vars(attn)) == attributes
    assert not attn._forward_hooks
    with class_attention(copy.deepcopy(backbone), (64, 64)) as copied:
        pass
    backbone(images)
    assert copied.map is None
    assert tap.map is not None


def test_restored_after_an_exception(vit_cfg):
    backbone = MODELS.build(vit_cfg())
    attn = last_attention(backbone)
    function = attn.scaled_dot_product_attention

    def fail_in_forward():
        with class_attention(backbone, (64, 64)):
            backbone(torch.randn(1, 3, 64, 64))
            raise KeyError('in the forward pass')

    with pytest.raises(KeyError):
        fail_in_forward()
    assert attn.scaled_dot_product_attention is function


def test_each_forward_has_its_own_map(vit_cfg, redraw):
    backbone = redraw(MODELS.build(vit_cfg()))
    backbone.eval()
    first, second = torch.randn(2, 2, 3, 64, 64)
    with class_attention(backbone, (64, 64)) as tap_1:
        backbone(first)
    with class_attention(backbone, (64, 64)) as tap_2:
        backbone(second)
    assert not torch.allclose(tap_1.map, tap_2.map)
    with class_attention(backbone, (64, 64)) as again:
        backbone(first)
    assert torch.equal(tap_1.map, again.map)


def test_gradient_checkpointing(vit_cfg, redraw):
    from torch.utils.checkpoint import checkpoint

    backbone = redraw(MODELS.build(vit_cfg()))
    layer = backbone.layers[-1]
    images = torch.randn(2, 3, 64, 64)
    with class_attention(backbone, (64, 64)) as plain:
        backbone(images)
    forward = layer.forward
    layer.forward = lambda x: checkpoint(forward, x, use_reentrant=False)
    with class_attention(backbone, (64, 64)) as tap:
        out = backbone(images)[-1]
    out.sum().backward()
    torch.testing.assert_close(tap.map, plain.map)


@pytest.mark.parametrize(
    ('cfg', 'named'),
    [
        (
            dict(type='ResNet', depth=18),
            r'ResNet has no known class attention \(ResNet has no attention between patches\).*'
            r"'PVT'.*'VisionTransformer'.*register_class_attention, whose docstring shows how",
        ),
        (
            dict(type='SwinTransformer', arch='tiny'),
            r'SwinTransformer .*the mean of all patches; CASwin .*register_class_attention',
        ),
    ],
)
def test_backbone_without_class_attention_is_refused(cfg, named):
    backbone = MODELS.build(cfg)
    with pytest.raises(ValueError, match=named):
        class_attention_of(backbone)
    with pytest.raises(ValueError, match=named), class_attention(backbone, (64, 64)):
        pass


@pytest.mark.parametrize(
    ('cfg', 'named'),
    [
        (dict(type='BEiTViT'), "BEiTViT with out_type='avg_featmap'.*out_type='cls_token'"),
        (dict(type='ViTEVA02', out_type='avg_featmap'), "ViTEVA02 with out_type='avg_featmap'.*out_type='cls_token'"),
        (dict(with_cls_token=False, out_type='avg_featmap'), 'with_cls_token=True'),
        (dict(type='DeiT3', with_cls_token=False, out_type='avg_featmap'), 'DeiT3.*with_cls_token=True'),
    ],
)
def test_relatives_of_vit_without_class_attention_are_refused(cfg, named, vit_cfg):
    with pytest.raises(ValueError, match=named):
        class_attention_of(MODELS.build(vit_cfg(**cfg)))


def test_attention_of_another_kind_is_refused(vit_cfg):
    backbone = MODELS.build(vit_cfg())
    backbone.layers[-1].attn = nn.Identity()
    with pytest.raises(ValueError, match='The Identity of VisionTransformer .* Register a ClassAttention of its own'):
        class_attention_of(backbone)


def test_pvt_without_class_token_is_refused(pvt_cfg):
    with pytest.raises(ValueError, match=r"out_type='cls_token'.*'featmap'"):
        class_attention_of(MODELS.build(pvt_cfg(out_type='featmap')))
