# Copyright (c) MMMixPro contributors.
"""MaskMix. Image ``i`` is ``i`` everywhere and has label ``i``: mixed images tell who is where."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from mmpretrain.registry import BATCH_AUGMENTS, MODELS
from mmpretrain.structures import DataSample

from mmmixpro.mixing import MixProBatchAugment


def index_batch(num, size, dtype=torch.float32):
    images = torch.arange(num).to(dtype)[:, None, None, None].expand(num, 3, *size).clone()
    return images, torch.eye(num)


def chi_square(counts, num_outcomes):
    expected = sum(counts.values()) / num_outcomes
    seen = sum((count - expected) ** 2 / expected for count in counts.values())
    return seen + (num_outcomes - len(counts)) * expected


@pytest.fixture
def fixed_tau(monkeypatch):
    def fixed_tau(tau):
        monkeypatch.setattr(np.random, 'beta', lambda a, b, size=None: np.broadcast_to(tau, size or ()))

    return fixed_tau


@pytest.mark.parametrize('mode', ['batch', 'elem'])
@pytest.mark.parametrize('pairing', ['random', 'flip'])
@pytest.mark.parametrize(('num', 'size'), [(1, (64, 64)), (2, (48, 64)), (5, (40, 72)), (6, (224, 224))])
def test_labels_are_the_share_of_pixels(num, size, pairing, mode):
    cell = 64 if size[0] == 224 else 16
    mixer = MixProBatchAugment(mask_size=cell, mode=mode, pairing=pairing)
    images, scores = index_batch(num, size)
    before = images.clone(), scores.clone()
    for _ in range(5):
        mixed, labels = mixer(images, scores)
        assert labels.dtype == torch.float32
        for i in range(num):
            assert (mixed[i] == mixed[i, :1]).all()  # channels go together
            tiles = [t for row in mixed[i, 0].split(cell) for t in row.split(cell, 1)]
            assert all((tile == tile[0, 0]).all() for tile in tiles)  # one image in each cell
            shares = np.bincount(mixed[i, 0].flatten().int(), minlength=num) / math.prod(size)
            assert np.count_nonzero(shares) <= 2
            others = np.flatnonzero(labels[i].numpy())
            assert set(others) <= set(np.flatnonzero(shares)) | {i}
            # Exact in float32; only 1 - lam, the partner's, may be one rounding off.
            assert labels[i, i] == np.float32(shares[i])
            np.testing.assert_allclose(labels[i], shares, rtol=0, atol=1e-7)
        assert torch.allclose(labels.sum(1), torch.ones(num), rtol=0, atol=1e-6)
    assert torch.equal(images, before[0])
    assert torch.equal(scores, before[1])


def test_cropped_cells_count_less():
    """64 px cells in 224 px: 8.2, 4.1 or 2.0 % of the image, by where they lie; 1/16 if counted."""
    images, scores = index_batch(2, (224, 224))
    seen, counted = set(), set()
    for _ in range(60):
        plan = MixProBatchAugment(pairing='flip').draw(images)
        if plan.mask[0].sum() == 1:
            seen.add(round(plan.lam[0].item() * 100, 1))
    for _ in range(60):
        plan = MixProBatchAugment(pairing='flip', lam='count').draw(images)
        if plan.mask[0].sum() == 1:
            counted.add(plan.lam[0].item())
        assert torch.equal(plan.lam, plan.mask.float().mean((1, 2)))
    assert seen <= {8.2, 4.1, 2.0}
    assert len(seen) > 1
    assert counted == {1 / 16}
    assert torch.equal(plan.mix_scores(scores, plan.lam, 1 - plan.lam).sum(1), torch.ones(2))


@pytest.mark.parametrize(('rounding', 'rounded'), [('floor', math.floor), ('ceil', math.ceil)])
@pytest.mark.parametrize('tau', [0.0, 0.01, 0.3, 0.5, 0.501, 0.999, 1.0])
def test_number_of_cells_kept(rounding, rounded, tau, fixed_tau):
    fixed_tau(tau)
    plan = MixProBatchAugment(mask_size=16, rounding=rounding).draw(torch.zeros(3, 3, 48, 72))
    assert plan.mask.shape == (3, 3, 5)
    assert plan.mask.sum((1, 2)).tolist() == [rounded(15 * tau)] * 3


def test_each_image_its_own_tau_in_elem_mode(fixed_tau):
    fixed_tau(np.array([0.1, 0.5, 0.9]))
    plan = MixProBatchAugment(mask_size=16, mode='elem').draw(torch.zeros(3, 3, 64, 64))
    assert plan.mask.sum((1, 2)).tolist() == [1, 8, 14]


@pytest.mark.parametrize('alpha', [0.5, 1.0, 4.0])
@pytest.mark.parametrize('mode', ['batch', 'elem'])
def test_share_follows_the_beta_distribution(mode, alpha):
    """Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1))."""
    mixer = MixProBatchAugment(mask_size=1, alpha=alpha, mode=mode)
    images = torch.zeros(4, 1, 20, 20)
    shares = torch.stack([mixer.draw(images).lam for _ in range(1500)])
    if mode == 'batch':
        assert (shares == shares[:, :1]).all()
        shares = shares[:, 0]
    else:
        assert abs(np.corrcoef(shares[:, 0], shares[:, 1])[0, 1]) < 0.1
    variance = 1 / (4 * (2 * alpha + 1))
    # Five standard errors; floor takes 1/2 of 400 cells off the mean.
    bound = 5 * math.sqrt(variance / shares.numel())
    assert shares.mean().item() == pytest.approx(0.5 - 0.5 / 400, abs=bound)
    assert shares.var().item() == pytest.approx(variance, rel=0.15)


def test_every_set_of_cells_is_equally_likely(fixed_tau):
    fixed_tau(0.5)
    masks = MixProBatchAugment(mask_size=8).draw(torch.zeros(6000, 1, 16, 16)).mask.flatten(1).tolist()
    # 6 ways to keep 2 of 4 cells: 5 degrees of freedom, 20.5 is the 0.1 % quantile.
    assert chi_square(Counter(map(tuple, masks)), 6) < 20.5
    # And an image's cells say nothing about its neighbour's: 36 pairs, 66.6 for 35 degrees.
    pairs = Counter((tuple(a), tuple(b)) for a, b in zip(masks[::2], masks[1::2], strict=True))
    assert chi_square(pairs, 36) < 66.6


def test_pairing():
    images = torch.zeros(3, 1, 8, 8)
    mixer = MixProBatchAugment(mask_size=4)
    partners = Counter(tuple(mixer.draw(images).partner.tolist()) for _ in range(1200))
    assert chi_square(partners, 6) < 20.5
    flip = MixProBatchAugment(mask_size=4, pairing='flip').draw(torch.zeros(5, 1, 8, 8))
    assert flip.partner.tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize('prob', [0, 0.5, 1])
def test_prob_is_honoured(prob):
    mixer = MixProBatchAugment(mask_size=4, prob=prob)
    images = torch.zeros(2, 1, 8, 8)
    mixed = sum(mixer.plan(images) is not None for _ in range(1000))
    assert abs(mixed - 1000 * prob) <= (80 if prob == 0.5 else 0)


def test_unmixed_batch_is_passed_on():
    images, scores = index_batch(3, (16, 16))
    mixed, labels = MixProBatchAugment(mask_size=8, prob=0)(images, scores.long())
    assert torch.equal(mixed, images)
    assert labels.dtype == torch.float32
    assert torch.equal(labels, scores)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float16, torch.float32, torch.float64])
def test_images_of_any_dtype(dtype):
    images, scores = index_batch(4, (32, 48), dtype)
    mixed, labels = MixProBatchAugment(mask_size=16)(images, scores.long())
    assert mixed.dtype == dtype
    assert labels.dtype == torch.float32


def test_seed_decides():
    images = torch.zeros(4, 1, 64, 64)
    plans = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        torch.manual_seed(seed)
        plans.append(MixProBatchAugment(mask_size=8).draw(images))
    assert torch.equal(plans[0].mask, plans[1].mask)
    assert torch.equal(plans[0].partner, plans[1].partner)
    assert not torch.equal(plans[0].mask, plans[2].mask)


@pytest.mark.parametrize('num', [1, 3])
def test_in_a_stock_classifier(num, vit_cfg, redraw):
    """MaskMix with labels by area, in any model of mmpretrain's."""
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=vit_cfg(),
            head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=32),
            data_preprocessor=dict(num_classes=3),
            train_cfg=dict(augments=dict(type='MixProBatchAugment', mask_size=32)),
        )
    )
    redraw(model)
    images, _ = index_batch(num, (64, 96))
    for _ in range(5):
        samples = [DataSample().set_gt_label(i) for i in range(num)]
        data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
        for i, (image, sample) in enumerate(zip(data['inputs'], data['data_samples'], strict=True)):
            shares = np.bincount(image[0].flatten().int(), minlength=3) / image[0].numel()
            np.testing.assert_allclose(sample.gt_score, shares, rtol=0, atol=1e-7)
            assert sample.gt_label.tolist() == [i]
    loss = model.loss(**data)['loss']
    loss.backward()
    assert torch.isfinite(loss)


def test_prob_among_augments_of_a_stock_classifier():
    from mmpretrain.models.utils.batch_augments import RandomBatchAugment

    augment = RandomBatchAugment([dict(type='MixProBatchAugment', mask_size=8)], probs=[0.5])
    images, scores = index_batch(2, (32, 32))
    mixed = sum(augment(images, scores)[0] is not images for _ in range(400))
    assert abs(mixed - 200) < 50


@pytest.mark.parametrize(
    ('kwargs', 'named'),
    [
        (dict(mask_size=0), 'mask_size'),
        (dict(mask_size=32.0), 'mask_size'),
        (dict(alpha=0), 'alpha'),
        (dict(alpha=-1.0), 'alpha'),
        (dict(mode='sample'), "mode.*batch.*elem.*'sample'"),
        (dict(prob=-0.1), 'prob'),
        (dict(prob=1.1), 'prob'),
        (dict(rounding='round'), "rounding.*floor.*ceil.*'round'"),
        (dict(lam='pixels'), "lam.*area.*count.*'pixels'"),
        (dict(pairing='roll'), "pairing.*random.*flip.*'roll'"),
    ],
)
def test_arguments_out_of_range_are_named(kwargs, named):
    with pytest.raises(ValueError, match=named):
        MixProBatchAugment(**kwargs)


def test_unknown_argument_is_named():
    with pytest.raises(TypeError, match='mask_sise'):
        BATCH_AUGMENTS.build(dict(type='MixProBatchAugment', mask_sise=32))


def test_token_stride():
    mixer = MixProBatchAugment(mask_size=48)
    mixer.check_token_stride(16)
    with pytest.raises(ValueError, match=r'mask_size=48 .*32 px.*multiple of 32'):
        mixer.check_token_stride(32)
