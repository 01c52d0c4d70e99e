# Copyright (c) MMMixPro contributors.
"""What holds for the class attention of every family, taken in passing."""

import copy

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from mmmixpro.attention import class_attention, class_attention_of
from mmmixpro.engine.hooks import compile_parts

# Token stride of each family.
STRIDES = dict(vit=16, pvt=32, cait=16, ca_swin=32, xcit=16)
families = pytest.mark.parametrize('family', STRIDES)


@pytest.fixture
def check(taps):
    def check(backbone, family, images, precision=None):
        return taps.check(backbone, images, 1, STRIDES[family], precision)

    return check


@pytest.mark.parametrize('case', ['train', 'eval', 'drop_path', 'bf16', 'bf16_model', 'float64'])
@families
def test_equals_explicit_softmax(family, case, make, check):
    backbone = make(family, drop_path_rate=0.5 if case == 'drop_path' else 0.0)
    assert class_attention_of(backbone).token_stride == STRIDES[family]
    backbone.train(case != 'eval')
    dtype = dict(bf16_model=torch.bfloat16, float64=torch.float64).get(case, torch.float32)
    if family == 'xcit' and dtype != torch.float32:
        pytest.skip("the position encoding of mmpretrain's XCiT is of float32")
    images = torch.randn(3, 3, 64, 64, dtype=dtype)
    check(backbone.to(dtype), family, images, torch.bfloat16 if case == 'bf16' else None)


@pytest.mark.parametrize('size', [(64, 128), (96, 64), (64, 160)])
@families
def test_images_that_are_not_square(family, size, make, check):
    check(make(family), family, torch.randn(2, 3, *size))


@families
def test_images_that_do_not_divide_are_refused(family, make):
    refusal = pytest.raises(ValueError, match=f'72 x 64 px .*{STRIDES[family]} px')
    with refusal, class_attention(make(family), (72, 64)):
        pass


@families
def test_tap_changes_nothing(family, make, taps):
    backbone = make(family)
    backbone.eval()
    images = torch.randn(2, 3, 64, 64)
    modules = list(taps.last_attention(backbone).modules())
    keys, attributes = set(backbone.state_dict()), [dict(vars(module)) for module in modules]
    with torch.no_grad():
        plain = backbone(images)[-1]
    with class_attention(backbone, (64, 64)) as tap:
        tapped = backbone(images)[-1]
        assert set(backbone.state_dict()) == keys
    assert torch.equal(plain, tapped)
    tapped.sum().backward()  # gradients pass as before
    assert all(p.grad is not None for p in taps.last_attention(backbone).parameters())
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


@families
def test_restored_after_an_exception(family, make, taps):
    backbone = make(family)
    modules = list(taps.last_attention(backbone).modules())
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
def test_compiled(family, case, make, check):
    """In one graph; tests/engine/test_compile.py has the steps with and without."""
    torch._dynamo.reset()
    backbone = make(family, drop_path_rate=0.5)
    backbone.train(case != 'eval')
    counter = CompileCounterWithBackend('aot_eager')
    compile_parts(nn.ModuleDict(dict(backbone=backbone)), backend=counter, fullgraph=True)
    check(backbone, family, torch.randn(2, 3, 64, 64), torch.bfloat16 if case == 'bf16' else None)
    assert counter.frame_count == 1


@families
def test_grid_at_224(family, backbone_cfg):
    """14 x 14 tokens, 7 x 7 for PVT and CA-Swin."""
    kwargs = dict(window_size=7) if family == 'ca_swin' else {}
    backbone = MODELS.build(backbone_cfg(family, img_size=224, **kwargs))
    with torch.no_grad(), class_attention(backbone, (224, 224)) as tap:
        backbone(torch.randn(1, 3, 224, 224))
    side = 7 if family in ('pvt', 'ca_swin') else 14
    assert tap.map.shape == (1, side, side)
