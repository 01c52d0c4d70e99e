# Copyright (c) MMMixPro contributors.
"""Attention of class attention blocks: what SMMix takes from it, and where it is refused."""

import pytest
import torch
from mmpretrain.registry import MODELS

from mmmixpro.attention import class_attention, class_attention_of, patch_attention_of

STRIDES = dict(cait=16, ca_swin=32, xcit=16)
families = pytest.mark.parametrize('family', STRIDES)


def test_layers_that_others_have_exchanged(make, taps):
    """As adapters do: theirs is used, and stays."""
    backbone = make('xcit')
    backbone.eval()
    query = taps.last_attention(backbone).q
    query.forward = lambda x: 2 * type(query).forward(query, x)
    adapted = query.forward
    images = torch.randn(2, 3, 64, 64)
    plain = backbone(images)[-1]
    for _ in range(2):
        with class_attention(backbone, (64, 64)):
            assert torch.equal(backbone(images)[-1], plain)
        assert query.forward is adapted
    taps.check(backbone, images, 1, 16)


@families
def test_smmix_is_guided_by_the_class_row(family, make):
    backbone = make(family)
    images = torch.randn(2, 3, 64, 128)
    backbone.eval()
    with patch_attention_of(backbone).patch_tap((64, 128)) as found:
        backbone(images)
    with class_attention(backbone, (64, 128)) as tap:
        backbone(images)
    assert torch.equal(found.map, tap.map)


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
