# Copyright (c) MMMixPro contributors.

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from mmmixpro.attention import class_attention, class_attention_of

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


@pytest.mark.parametrize('name', VITS)
def test_equals_explicit_softmax(name, vit_cfg, redraw, taps):
    cfg, num_extra = VITS[name]
    backbone = redraw(MODELS.build(vit_cfg(**cfg)))
    backbone.train()
    stride = cfg.get('patch_cfg', {}).get('stride', 16)
    assert class_attention_of(backbone).token_stride == stride
    taps.check(backbone, torch.randn(2, 3, 64, 64), num_extra, stride)


def test_attention_dropout_is_not_part_of_it(vit_cfg, redraw, taps):
    backbone = redraw(MODELS.build(vit_cfg(layer_cfgs=dict(attn_drop_rate=0.5))))
    taps.check(backbone, torch.randn(2, 3, 64, 64), 1, 16)


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
