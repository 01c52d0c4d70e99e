# Copyright (c) MMMixPro contributors.
import math

import numpy as np
import pytest
import torch
from mmpretrain.registry import BATCH_AUGMENTS
from oracles import comparators as oracle
from torch.nn import functional as F

from mmmixpro.mixing import SaliencyMix
from mmmixpro.mixing.saliency import salient_pixels, spectral_residual

SIZES = [(1, (64, 64)), (2, (48, 80)), (5, (31, 57)), (3, (224, 160))]


def natural(num, size):
    """Noise of many scales, the larger the stronger, as in photographs."""
    noise = [2**k * torch.randn(num, 3, max(size[0] >> k, 1), max(size[1] >> k, 1)) for k in range(6)]
    return sum(F.interpolate(plane, size, mode='bilinear') for plane in noise)


def with_patch(top, left, size=(96, 128)):
    """Texture with one patch of 16 px that is unlike it."""
    image = 0.3 * torch.randn(3, *size)
    image[:, top : top + 16, left : left + 16] += 3
    return image


@pytest.mark.parametrize(('num', 'size'), SIZES)
def test_saliency_is_the_oracles(num, size):
    images = natural(num, size)
    saliency = spectral_residual(images)
    assert saliency.dtype == torch.float32
    for i in range(num):
        expected = oracle.spectral_residual(images[i].numpy())
        np.testing.assert_allclose(saliency[i], expected, rtol=0, atol=1e-4 * expected.max())


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(('num', 'size'), SIZES)
def test_plan_is_the_oracles(num, size, dtype, check_plan, reseed):
    images = natural(num, size).to(dtype)
    centres = [oracle.salient_pixel(image.float().numpy()) for image in images]
    for seed in range(3):
        reseed(seed)
        lam, partner = np.random.beta(1, 1), torch.randperm(num).tolist()
        reseed(seed)
        plan = SaliencyMix().draw(images)
        assert plan.partner.tolist() == partner
        check_plan(plan, images, [oracle.box_mask(centres[j], lam, *size) for j in partner])


def test_what_is_odd_is_found():
    places = [(0, 0), (8, 100), (40, 56), (80, 112), (70, 3)]
    rows, columns = salient_pixels(torch.stack([with_patch(*place) for place in places]))
    for (top, left), row, column in zip(places, rows.tolist(), columns.tolist(), strict=True):
        assert top - 4 <= row < top + 20
        assert left - 4 <= column < left + 20


def test_each_image_is_given_its_own_partners_box(fixed_lam):
    fixed_lam(0.75)
    images = torch.stack([with_patch(10, 10), with_patch(60, 90), with_patch(60, 20)])
    rows, columns = salient_pixels(images)
    plan = SaliencyMix().draw(images)
    while (plan.partner == torch.arange(3)).any():
        plan = SaliencyMix().draw(images)
    for i, j in enumerate(plan.partner.tolist()):
        box = ~plan.mask[i]
        assert box[rows[j], columns[j]]
        assert not box[rows[i], columns[i]]


def test_scaling_an_image_changes_nothing():
    images = natural(4, (48, 64))
    for factor in (1 / 64, 256):
        for before, after in zip(salient_pixels(images), salient_pixels(factor * images), strict=True):
            assert torch.equal(before, after)


def test_autocast_changes_nothing():
    images = natural(4, (48, 64))
    with torch.autocast('cpu', torch.bfloat16):
        within = spectral_residual(images)
    assert torch.equal(within, spectral_residual(images))


@pytest.mark.parametrize('value', [0.0, 3.0])
def test_images_without_structure(value, fixed_lam):
    fixed_lam(0.75)
    images = torch.full((2, 3, 32, 48), value)
    assert torch.isfinite(spectral_residual(images)).all()
    plan = SaliencyMix().draw(images)
    # A box of 16 x 24 px, of which at least a quarter is inside.
    assert (plan.lam < 1).all()
    assert (plan.lam >= 0.75).all()


@pytest.mark.parametrize('alpha', [0.5, 1.0, 4.0])
def test_share_follows_the_beta_distribution(alpha, reseed):
    """A patch in the middle, boxes within the image: as many pixels as CutMix's box has before it is clipped."""
    images = with_patch(24, 24, (64, 64))[None]
    row, column = salient_pixels(images)
    shares = torch.stack([SaliencyMix(alpha).draw(images).lam[0] for _ in range(1500)])
    reseed(1)
    draws = np.random.beta(alpha, alpha, 20000)
    expected = np.array([oracle.box_mask((row.item(), column.item()), lam, 64, 64).mean() for lam in draws[:1500]])
    # Five standard errors of the difference of two means.
    assert shares.mean().item() == pytest.approx(expected.mean(), abs=5 * math.sqrt(2 * expected.var() / 1500))
    assert shares.var().item() == pytest.approx(expected.var(), rel=0.2)


def test_lam_of_the_call_is_the_share_of_pixels():
    """Image ``i`` is about ``i`` everywhere: labels are the shares seen."""
    images = 10 * torch.arange(4.0)[:, None, None, None] + torch.rand(4, 3, 40, 56)
    for _ in range(20):
        mixed, labels = SaliencyMix()(images, torch.eye(4))
        for i in range(4):
            shares = np.bincount((mixed[i, 0] // 10).flatten().int(), minlength=4) / mixed[i, 0].numel()
            np.testing.assert_allclose(labels[i], shares, rtol=0, atol=1e-6)


@pytest.mark.parametrize('prob', [0, 0.5, 1])
def test_prob_is_honoured(prob):
    mixer, images = SaliencyMix(prob=prob), torch.zeros(2, 1, 8, 8)
    mixed = sum(mixer.plan(images) is not None for _ in range(400))
    assert abs(mixed - 400 * prob) <= (50 if prob == 0.5 else 0)


@pytest.mark.parametrize(('kwargs', 'named'), [(dict(alpha=0), 'alpha'), (dict(prob=-1), 'prob')])
def test_arguments_out_of_range_are_named(kwargs, named):
    with pytest.raises(ValueError, match=named):
        SaliencyMix(**kwargs)


def test_unknown_argument_is_named():
    with pytest.raises(TypeError, match='mask_size'):
        BATCH_AUGMENTS.build(dict(type='SaliencyMix', mask_size=32))


def test_any_token_stride_fits():
    SaliencyMix().check_token_stride(7)
