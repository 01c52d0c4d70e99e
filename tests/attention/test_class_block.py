# Copyright (c) MMMixPro contributors.
"""Attention of class attention blocks, in passing."""

import copy

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from oracles import attention as oracle
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from mmmixpro.attention import class_attention, class_attention_of, patch_attention_of
from mmmixpro.engine.hooks import compile_parts

# Token stride of each family.
STRIDES = dict(cait=16, ca_swin=32, xcit=16)
families = pytest.mark.parametrize('family', STRIDES)


def last_attention(backbone):
    block = backbone.ca_layers[-1] if hasattr(backbone, 'ca_layers') else backbone.stages[-1].blocks[-1]
    return block.attn


@pytest.fixture
def make(backbone_cfg, redraw):
    def make(family, **kwargs):
        return redraw(MODELS.build(backbone_cfg(family, **kwargs)))

    return make


def explicit_map(attn, seen, h, w):
    """Full softmax attention in NumPy, from the outputs of the module's own linear layers."""
    maps = []
    for query, key in zip(seen['q'].double().numpy(), seen['k'].double().numpy(), strict=True):
        query, key = (oracle.split_heads(np.atleast_2d(x), attn.num_heads, 0, 1) for x in (query, key))
        maps.append(oracle.class_row(oracle.full_attention(query, key), 1, h, w))
    return np.array(maps)


def check_tap(backbone, family, images, precision=None, enter=class_attention):
    attn, seen = last_attention(backbone), {}
    handles = [
        getattr(attn, name).register_forward_hook(lambda _, args, out, name=name: seen.update({name: out.detach()}))
        for name in 'qk'
    ]
    with (
        torch.autocast('cpu', dtype=precision, enabled=precision is not None),
        enter(backbone, images.shape[-2:]) as tap,
    ):
        assert tap.map is None
        backbone(images)
    for handle in handles:
        handle.remove()
    h, w = (side // STRIDES[family] for side in images.shape[-2:])
    assert tap.map.shape == (len(images), h, w)
    assert tap.map.dtype == torch.float32
    assert not tap.map.requires_grad
    np.testing.assert_allclose(tap.map.sum((1, 2)), 1, rtol=0, atol=1e-5)
    np.testing.assert_allclose(tap.map, explicit_map(attn, seen, h, w), rtol=0, atol=1e-5)
    # Not everywhere the same, or the test could not tell one token from another.
    assert tap.map.std((1, 2)).min() > 1e-3
    return tap.map


@pytest.mark.parametrize('case', ['train', 'eval', 'drop_path', 'bf16', 'bf16_model', 'float64'])
@families
def test_equals_explicit_softmax(family, case, make):
    backbone = make(family, drop_path_rate=0.5 if case == 'drop_path' else 0.0)
    assert class_attention_of(backbone).token_stride == STRIDES[family]
    backbone.train(case != 'eval')
    dtype = dict(bf16_model=torch.bfloat16, float64=torch.float64).get(case, torch.float32)
    if family == 'xcit' and dtype != torch.float32:
        pytest.skip("the position encoding of mmpretrain's XCiT is of float32")
    images = torch.randn(3, 3, 64, 64, dtype=dtype)
    check_tap(backbone.to(dtype), family, images, torch.bfloat16 if case == 'bf16' else None)


@pytest.mark.parametrize('size', [(64, 128), (96, 64), (64, 160)])
@families
def test_images_that_are_not_square(family, size, make):
    check_tap(make(family), family, torch.randn(2, 3, *size))


@families
def test_images_that_do_not_divide_are_refused(family, make):
    refusal = pytest.raises(ValueError, match=f'72 x 64 px .*{STRIDES[family]} px')
    with refusal, class_attention(make(family), (72, 64)):
        pass


@families
def test_tap_changes_nothing(family, make):
    backbone = make(family)
    backbone.eval()
    images = torch.randn(2, 3, 64, 64)
    modules = list(last_attention(backbone).modules())
    keys, attributes = set(backbone.state_dict()), [dict(vars(module)) for module in modules]
    with torch.no_grad():
        plain = backbone(images)[-1]
    with class_attention(backbone, (64, 64)) as tap:
        tapped = backbone(images)[-1]
        assert set(backbone.state_dict()) == keys
    assert torch.equal(plain, tapped)
    tapped.sum().backward()  # gradients pass as before
    assert all(p.grad is not None for p in last_attention(backbone).parameters())
    assert [dict(vars(module)) for module in modules] == attributes

    with class_attention(copy.deepcopy(backbone), (64, 64)) as copied:
        pass
    before = tap.map.clone()
    backbone(images + 1)
    assert copied.map is None
    assert torch.equal(tap.map, before)


@families
def test_taps_inside_each_other(family, make):
    backbone = make(family)
    with class_attention(backbone, (64, 64)) as outer, class_attention(backbone, (64, 64)) as inner:
        backbone(torch.randn(2, 3, 64, 64))
    assert torch.equal(outer.map, inner.map)


def test_layers_that_others_have_exchanged(make):
    """As adapters do: theirs is used, and stays."""
    backbone = make('xcit')
    backbone.eval()
    query = last_attention(backbone).q
    query.forward = lambda x: 2 * type(query).forward(query, x)
    adapted = query.forward
    images = torch.randn(2, 3, 64, 64)
    plain = backbone(images)[-1]
    for _ in range(2):
        with class_attention(backbone, (64, 64)):
            assert torch.equal(backbone(images)[-1], plain)
        assert query.forward is adapted
    check_tap(backbone, 'xcit', images)


@families
def test_restored_after_an_exception(family, make):
    backbone = make(family)
    modules = list(last_attention(backbone).modules())
    attributes = [dict(vars(module)) for module in modules]

    def fail_in_forward():
        with class_attention(backbone, (64, 64)):
            backbone(torch.randn(1, 3, 64, 64))
            raise KeyError('in the forward pass')

    with pytest.raises(KeyError):
        fail_in_forward()
    assert [dict(vars(module)) for module in modules] == attributes


@pytest.mark.parametrize('case', ['train', 'eval', 'bf16'])
@families
def test_compiled(family, case, make):
    """In one graph; tests/engine/test_compile.py has the steps with and without."""
    torch._dynamo.reset()
    backbone = make(family, drop_path_rate=0.5)
    backbone.train(case != 'eval')
    counter = CompileCounterWithBackend('aot_eager')
    compile_parts(nn.ModuleDict(dict(backbone=backbone)), backend=counter, fullgraph=True)
    check_tap(backbone, family, torch.randn(2, 3, 64, 64), torch.bfloat16 if case == 'bf16' else None)
    assert counter.frame_count == 1


@families
def test_smmix_is_guided_by_the_class_row(family, make):
    backbone = make(family)
    images = torch.randn(2, 3, 64, 128)
    backbone.eval()
    found = check_tap(
        backbone, family, images, enter=lambda backbone, size: patch_attention_of(backbone).patch_tap(size)
    )
    with class_attention(backbone, (64, 128)) as tap:
        backbone(images)
    assert torch.equal(found, tap.map)


@pytest.mark.parametrize('size', [(64, 64), (64, 160)])
@families
def test_tokens_beside_the_features(family, size, make, backbone_cfg):
    """Of one pass, features as they were, and the tokens that the class token has read, through the final norm."""
    backbone = make(family)
    backbone.eval()
    images = torch.randn(2, 3, *size)
    plain = backbone(images)
    calls = []
    backbone.register_forward_hook(lambda *_: calls.append(1))
    feats, tokens = patch_attention_of(backbone).with_tokens(images)
    assert (len(calls), backbone.out_type) == (1, 'cls_token')
    assert tokens.shape == (2, size[0] // STRIDES[family] * (size[1] // STRIDES[family]), 32)
    torch.testing.assert_close(feats, plain)

    # XCiT's class attention blocks pass the patches on through norms; those of the others leave them alone.
    if family != 'xcit':
        dense = MODELS.build(backbone_cfg(family, out_type='featmap'))
        assert not dense.load_state_dict(backbone.state_dict(), strict=False)[0]
        dense.eval()
        torch.testing.assert_close(tokens, dense(images)[-1].flatten(2).transpose(1, 2))


@families
def test_gradients_reach_both(family, make):
    backbone = make(family)

    def learning(*outputs):
        backbone.zero_grad()
        sum(out.pow(2).sum() for out in outputs).backward()
        return {name for name, param in backbone.named_parameters() if param.grad is not None}

    images = torch.randn(2, 3, 64, 64)
    expected = learning(backbone(images)[-1])
    assert expected == set(dict(backbone.named_parameters()))
    assert learning(patch_attention_of(backbone).with_tokens(images)[0][-1]) == expected
    of_tokens = learning(patch_attention_of(backbone).with_tokens(images)[1])
    assert {name.split('.')[0] for name in of_tokens} >= {'patch_embed'}


@pytest.mark.parametrize(
    ('family', 'kwargs', 'named'),
    [
        ('cait', dict(out_type='raw'), "CaiT .*out_type='cls_token'.*'raw'"),
        ('cait', dict(out_type='featmap'), "out_type='featmap'"),
        ('cait', dict(out_indices=2), r'3 among out_indices.*\(2,\)'),
        ('ca_swin', dict(out_type='featmap'), "CASwin .*out_type='featmap'"),
        ('xcit', dict(out_type='avg_featmap'), "XCiT .*out_type='avg_featmap'"),
        ('xcit', dict(out_indices=[2]), r'3 among out_indices.*\[2\]'),
    ],
)
def test_backbones_that_give_no_class_token_are_refused(family, kwargs, named, make):
    with pytest.raises(ValueError, match=named):
        class_attention_of(make(family, **kwargs))


@families
def test_grid_at_224(family, backbone_cfg):
    """14 x 14 tokens, 7 x 7 for CA-Swin."""
    kwargs = dict(window_size=7) if family == 'ca_swin' else {}
    backbone = MODELS.build(backbone_cfg(family, img_size=224, **kwargs))
    with torch.no_grad(), class_attention(backbone, (224, 224)) as tap:
        backbone(torch.randn(1, 3, 224, 224))
    side = 7 if family == 'ca_swin' else 14
    assert tap.map.shape == (1, side, side)
