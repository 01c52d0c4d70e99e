# Copyright (c) MMMixPro contributors.
"""Attention between patches, and their tokens, in passing."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from oracles import smmix as oracle
from oracles.attention import full_attention, split_heads

from mmmixpro.attention import patch_attention_of

# Family, further arguments of the backbone, tokens before the patches, token stride.
BACKBONES = {
    'vit': ('vit', dict(), 1, 16),
    'deit_distilled': ('vit', dict(type='DistilledVisionTransformer'), 2, 16),
    'deit3': ('vit', dict(type='DeiT3'), 1, 16),
    'all_maps': ('vit', dict(out_indices=[0, 1, 2, 3]), 1, 16),
    'no_final_norm': ('vit', dict(final_norm=False), 1, 16),
    'overlapping_patches': ('vit', dict(patch_cfg=dict(stride=8)), 1, 8),
    'pvt': ('pvt', dict(), 1, 32),
}


@pytest.fixture
def make(vit_cfg, pvt_cfg, redraw):
    def make(name, **kwargs):
        family, args, num_extra, stride = BACKBONES[name]
        backbone = redraw(MODELS.build(dict(vit=vit_cfg, pvt=pvt_cfg)[family](**{**args, **kwargs})))
        backbone.eval()
        return backbone, num_extra, stride

    return make


@pytest.mark.parametrize('precision', [None, torch.bfloat16])
@pytest.mark.parametrize('size', [(64, 64), (64, 160)])
@pytest.mark.parametrize('name', BACKBONES)
def test_scores_are_the_column_means_of_explicit_softmax(name, size, precision, make):
    backbone, num_extra, stride = make(name)
    attn = (backbone.layers if hasattr(backbone, 'layers') else backbone.stages[-1].blocks)[-1].attn
    seen, (q, k) = {}, (('qkv', 0, 3), ('qkv', 1, 3)) if hasattr(attn, 'qkv') else (('q', 0, 1), ('kv', 0, 2))
    for layer in {q[0], k[0]}:
        getattr(attn, layer).register_forward_hook(lambda _, args, out, layer=layer: seen.update({layer: out.detach()}))
    function = attn.scaled_dot_product_attention
    with (
        torch.autocast('cpu', dtype=precision, enabled=precision is not None),
        patch_attention_of(backbone).patch_tap(size) as tap,
    ):
        backbone(torch.randn(2, 3, *size))
    assert attn.scaled_dot_product_attention is function

    h, w = (side // stride for side in size)
    assert tap.map.shape == (2, h, w)
    assert tap.map.dtype == torch.float32
    assert not tap.map.requires_grad
    for i in range(2):
        query, key = (
            split_heads(seen[layer][i].double().numpy(), attn.num_heads, part, parts) for layer, part, parts in (q, k)
        )
        scores = oracle.patch_scores(full_attention(query, key), num_extra, h, w)
        np.testing.assert_allclose(tap.map[i], scores / scores.sum(), rtol=0, atol=1e-6)
        assert scores.std() > 1e-3 * scores.mean()


@pytest.mark.parametrize('size', [(64, 64), (64, 160)])
@pytest.mark.parametrize('name', BACKBONES)
def test_tokens_beside_the_features(name, size, make):
    """Of one pass, features as they were, and tokens as the backbone's own map has them."""
    backbone, num_extra, stride = make(name)
    images = torch.randn(2, 3, *size)
    plain = backbone(images)
    calls = []
    backbone.register_forward_hook(lambda *_: calls.append(1))
    feats, tokens = patch_attention_of(backbone).with_tokens(images)
    assert len(calls) == 1
    assert backbone.out_type == 'cls_token'
    assert tokens.shape == (2, size[0] // stride * (size[1] // stride), 32)
    assert len(feats) == len(plain)
    torch.testing.assert_close(feats, plain)

    if name != 'pvt':
        backbone.out_type = 'featmap'
        torch.testing.assert_close(tokens, backbone(images)[-1].flatten(2).transpose(1, 2))


@pytest.mark.parametrize('name', BACKBONES)
def test_gradients_reach_both(name, make):
    backbone, _, _ = make(name)
    images = torch.randn(2, 3, 64, 64)

    def learning(out):
        backbone.zero_grad()
        sum(o.pow(2).sum() for o in (out if isinstance(out, tuple) else (out,))).backward()
        return {name for name, param in backbone.named_parameters() if param.grad is not None}

    # mmpretrain's DeiT3 has norms that it does not use.
    expected = learning(backbone(images)[-1])
    for part in range(2):
        outputs = patch_attention_of(backbone).with_tokens(images)
        assert learning(outputs[0][-1] if part == 0 else outputs[1]) == expected


def test_out_type_is_restored_after_an_exception(make):
    backbone, _, _ = make('vit')
    with pytest.raises(RuntimeError):
        patch_attention_of(backbone).with_tokens(torch.randn(2, 5, 64, 64))
    assert backbone.out_type == 'cls_token'
