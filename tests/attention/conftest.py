# Copyright (c) MMMixPro contributors.
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from oracles import attention as oracle

from mmmixpro.attention import class_attention

# Where attention modules have queries and keys: the layer, which part of its output, of how many.
PACKED = {'qkv': (('qkv', 0, 3), ('qkv', 1, 3)), 'kv': (('q', 0, 1), ('kv', 0, 2)), 'k': (('q', 0, 1), ('k', 0, 1))}


def last_attention(backbone):
    """The last attention module of DeiT, PVT, CaiT, CA-Swin or XCiT."""
    for name in ('ca_layers', 'layers'):
        if hasattr(backbone, name):
            return getattr(backbone, name)[-1].attn
    return backbone.stages[-1].blocks[-1].attn


def explicit_map(attn, seen, num_extra, h, w):
    """Full softmax attention in NumPy, from the outputs of the module's own linear layers."""
    parts = next(parts for name, parts in PACKED.items() if name in seen)
    maps = []
    for i in range(len(seen[parts[0][0]])):
        query, key = (
            oracle.split_heads(np.atleast_2d(seen[layer][i].double().numpy()), attn.num_heads, part, of)
            for layer, part, of in parts
        )
        maps.append(oracle.class_row(oracle.full_attention(query, key), num_extra, h, w))
    return np.array(maps)


def check(backbone, images, num_extra, stride, precision=None):
    """The tap of a forward pass equals explicit softmax attention; the map."""
    attn, seen = last_attention(backbone), {}
    handles = [
        getattr(attn, name).register_forward_hook(lambda _, args, out, name=name: seen.update({name: out.detach()}))
        for name in ('qkv', 'q', 'kv', 'k')
        if hasattr(attn, name)
    ]
    with (
        torch.autocast('cpu', dtype=precision, enabled=precision is not None),
        class_attention(backbone, images.shape[-2:]) as tap,
    ):
        assert tap.map is None
        backbone(images)
    for handle in handles:
        handle.remove()
    h, w = (side // stride for side in images.shape[-2:])
    assert tap.map.shape == (len(images), h, w)
    assert tap.map.dtype == torch.float32
    assert not tap.map.requires_grad
    np.testing.assert_allclose(tap.map.sum((1, 2)), 1, rtol=0, atol=1e-5)
    np.testing.assert_allclose(tap.map, explicit_map(attn, seen, num_extra, h, w), rtol=0, atol=1e-5)
    # Not everywhere the same, or the test could not tell one token from another.
    assert tap.map.std((1, 2)).min() > 1e-3
    return tap.map


@pytest.fixture
def make(backbone_cfg, redraw):
    def make(family, **kwargs):
        return redraw(MODELS.build(backbone_cfg(family, **kwargs)))

    return make


@pytest.fixture
def taps():
    return SimpleNamespace(check=check, last_attention=last_attention)
