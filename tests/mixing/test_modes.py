# Copyright (c) MMMixPro contributors.
"""Mixup and CutMix per batch, pair and image. Image ``i`` is ``i`` everywhere and has label ``i``."""

import numpy as np
import pytest
import torch
from mmpretrain.models.utils.batch_augments import Mixup
from mmpretrain.registry import BATCH_AUGMENTS, MODELS

from mmmixpro.labels import AttentionLabels
from mmmixpro.mixing import CutMixBatchAugment, MixProBatchAugment, MixupBatchAugment

MIXERS = [MixupBatchAugment, CutMixBatchAugment, MixProBatchAugment]
MODES = ['batch', 'pair', 'elem']


def index_batch(num, size):
    return torch.arange(num).float()[:, None, None, None].expand(num, 3, *size).clone(), torch.eye(num)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize(('num', 'size'), [(1, (32, 32)), (2, (48, 32)), (5, (31, 57))])
def test_mixup_against_the_equation(num, size, mode):
    mixer = MixupBatchAugment(mode=mode)
    images, scores = torch.randn(num, 3, *size), torch.eye(num)
    before = images.clone()
    for _ in range(10):
        plan = mixer.draw(images)
        mixed, labels = plan.mix_images(images), plan.mix_scores(scores, plan.lam, 1 - plan.lam)
        for i, (lam, j) in enumerate(zip(plan.lam.tolist(), plan.partner.tolist(), strict=True)):
            expected = lam * before[i].double() + (1 - lam) * before[j].double()
            np.testing.assert_allclose(mixed[i], expected, rtol=0, atol=1e-6)
            share = np.zeros(num)
            share[i] += lam
            share[j] += 1 - lam
            np.testing.assert_allclose(labels[i], share, rtol=0, atol=1e-6)
    assert torch.equal(images, before)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('num', [1, 2, 5])
def test_cutmix_boxes_and_labels_agree(num, mode):
    mixer = CutMixBatchAugment(mode=mode)
    images, scores = index_batch(num, (31, 57))
    before = images.clone()
    for _ in range(20):
        plan = mixer.draw(images)
        mixed, labels = plan.mix_images(images), plan.mix_scores(scores, plan.lam, 1 - plan.lam)
        boxes = ~plan.pixel_mask().expand(num, -1, -1)
        for i, box in enumerate(boxes):
            assert box.sum() == box.any(0).sum() * box.any(1).sum()
            assert (mixed[i][:, ~box] == i).all()
            assert (mixed[i][:, box] == plan.partner[i]).all()
            shares = np.bincount(mixed[i, 0].flatten().int(), minlength=num) / mixed[i, 0].numel()
            np.testing.assert_allclose(labels[i], shares, rtol=0, atol=1e-6)
    assert torch.equal(images, before)


def test_mixup_of_the_batch_is_mmpretrains(reseed):
    images, scores = torch.randn(4, 3, 8, 8), torch.eye(4)
    for seed in range(10):
        reseed(seed)
        expected, expected_scores = Mixup(0.8)(images.clone(), scores)
        reseed(seed)
        plan = MixupBatchAugment(0.8).draw(images)
        mixed, labels = plan.mix_images(images), plan.mix_scores(scores, plan.lam, 1 - plan.lam)
        torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(labels, expected_scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize('mixer', MIXERS)
@pytest.mark.parametrize('num', [5, 6])
def test_who_shares_a_draw(mixer, num):
    images = torch.zeros(num, 1, 64, 64)
    lams = {
        mode: torch.stack([mixer(mode=mode, **cells(mixer)).draw(images).lam for _ in range(300)]) for mode in MODES
    }
    assert (lams['batch'] == lams['batch'][:, :1]).all()
    assert torch.equal(lams['pair'], lams['pair'].flip(1))
    for mode, apart in (('pair', 1), ('elem', num - 1)):
        assert (lams[mode][:, 0] != lams[mode][:, apart]).float().mean() > 0.9
        assert abs(np.corrcoef(lams[mode][:, 0], lams[mode][:, apart])[0, 1]) < 0.25
    assert mixer(mode='pair', **cells(mixer)).draw(images).partner.tolist() == list(range(num))[::-1]


def cells(mixer):
    return dict(mask_size=2) if mixer is MixProBatchAugment else {}


@pytest.mark.parametrize('alpha', [0.5, 1.0, 4.0])
@pytest.mark.parametrize('mode', MODES)
def test_share_follows_the_beta_distribution(mode, alpha):
    """10,000 draws of Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)); bounds of five standard errors or so."""
    mixer = MixupBatchAugment(alpha=alpha, mode=mode)
    draws = dict(batch=1, pair=2, elem=4)[mode]
    lam = torch.cat([mixer.draw(torch.zeros(4, 1, 1, 1)).lam[:draws] for _ in range(10_000 // draws)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert lam.mean().item() == pytest.approx(0.5, abs=5 * (variance / len(lam)) ** 0.5)
    assert lam.var().item() == pytest.approx(variance, rel=0.07)


@pytest.mark.parametrize('mixer', MIXERS)
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('prob', [0, 0.25, 0.5, 1])
def test_prob_is_honoured(mixer, mode, prob):
    mixer = mixer(prob=prob, mode=mode, **cells(mixer))
    images = torch.zeros(2, 1, 8, 8)
    mixed = sum(mixer.plan(images) is not None for _ in range(10_000 if mode == 'batch' else 1000))
    total = 10_000 if mode == 'batch' else 1000
    assert abs(mixed - total * prob) <= 5 * (total * prob * (1 - prob)) ** 0.5


def test_elem_boxes_are_drawn_as_batch_boxes_are():
    """Mean and variance of CutMix's share of pixels, which clipping makes larger than lambda."""
    images = torch.zeros(4, 1, 32, 48)
    batch, elem = (
        torch.cat([CutMixBatchAugment(mode=mode).draw(images).lam[:draws] for _ in range(4000 // draws)])
        for mode, draws in (('batch', 1), ('elem', 4))
    )
    assert elem.mean().item() == pytest.approx(batch.mean().item(), abs=7 * batch.std().item() / 4000**0.5)
    assert elem.std().item() == pytest.approx(batch.std().item(), rel=0.07)


@pytest.mark.parametrize('size', [(64, 64), (40, 56)])
def test_aligned_borders(size, reseed):
    images = torch.zeros(3, 1, *size)
    for seed in range(50):
        reseed(seed)
        free = CutMixBatchAugment(mode='elem').draw(images)
        reseed(seed)
        aligned = CutMixBatchAugment(mode='elem', align=16).draw(images)
        for box, near in zip(~free.mask, ~aligned.mask, strict=True):
            for dim in (0, 1):
                where, moved = (torch.nonzero(side.any(dim)).flatten() for side in (box, near))
                if len(where) == 0 or len(moved) == 0:
                    continue
                side = size[1 - dim]
                for border, new in ((where[0], moved[0]), (where[-1] + 1, moved[-1] + 1)):
                    assert new % 16 == 0 or new == side
                    assert abs(new - border) <= 8


def test_blend_has_the_labels_of_its_area_under_attention():
    plan = MixupBatchAugment(mode='elem').draw(torch.zeros(5, 3, 32, 32))
    attention = torch.rand(5, 4, 4).flatten(1).softmax(1).view(5, 4, 4)
    w_i, w_j = AttentionLabels()(plan, attention, torch.zeros(5, 5), torch.eye(5))
    torch.testing.assert_close(w_i, plan.lam)
    torch.testing.assert_close(w_j, 1 - plan.lam)


@pytest.mark.parametrize('augment', ['MixupBatchAugment', 'CutMixBatchAugment'])
def test_in_a_pal_classifier(augment, classifier_cfg):
    model = MODELS.build(classifier_cfg(augments=[dict(type=augment, mode='elem')]))
    loss = model.loss(torch.randn(5, 3, 64, 64), torch.eye(7)[:5])['loss']
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize('offset', [1, 4, 8, 15])
@pytest.mark.parametrize('size', [(48, 48), (40, 56)])
def test_offset_moves_the_grid_of_cells(offset, size, reseed):
    images, _ = index_batch(3, size)
    reseed(0)
    plan = MixProBatchAugment(mask_size=16, offset=offset).draw(images)
    mixed = plan.mix_images(images)
    own = torch.where(plan.partner == torch.arange(3), plan.lam, (mixed == images).float().mean((1, 2, 3)))
    torch.testing.assert_close(plan.lam, own, rtol=0, atol=1e-7)
    starts = [[0, *range(16 - offset, side, 16)] for side in size]
    for image in mixed[:, 0]:
        for top, bottom in zip(starts[0], [*starts[0][1:], size[0]], strict=True):
            for left, right in zip(starts[1], [*starts[1][1:], size[1]], strict=True):
                assert image[top:bottom, left:right].unique().numel() == 1
    # And borders do run within tokens of 16 px.
    masks = torch.cat([MixProBatchAugment(mask_size=16, offset=offset).draw(images).pixel_mask() for _ in range(5)])
    tokens = masks[:, :32, :32].unflatten(1, (2, 16)).unflatten(3, (2, 16)).float().mean((2, 4))
    assert ((tokens > 0) & (tokens < 1)).any()


@pytest.mark.parametrize(
    ('augment', 'named'),
    [
        (dict(type='MixupBatchAugment', alpha=0), 'alpha'),
        (dict(type='CutMixBatchAugment', mode='half'), "batch.*pair.*elem.*'half'"),
        (dict(type='CutMixBatchAugment', align=0), 'align'),
        (dict(type='MixProBatchAugment', offset=64), 'offset'),
        (dict(type='MixProBatchAugment', mode='half'), 'mode'),
    ],
)
def test_arguments_out_of_range_are_named(augment, named):
    with pytest.raises(ValueError, match=named):
        BATCH_AUGMENTS.build(augment)
