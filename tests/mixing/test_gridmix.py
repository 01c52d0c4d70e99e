# Copyright (c) MMMixPro contributors.
import math
from collections import Counter

import numpy as np
import pytest
import torch
from mmpretrain.registry import BATCH_AUGMENTS
from oracles import comparators as oracle
from oracles import mixing

from mmmixpro.mixing import GridMix


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ('num', 'size', 'cell'), [(1, (64, 64), 16), (2, (48, 64), 16), (5, (40, 72), 16), (3, (224, 160), 32)]
)
def test_plan_is_the_oracles(num, size, cell, dtype, check_plan, reseed):
    mixer = GridMix(mask_size=cell)
    images = torch.randn(num, 3, *size).to(dtype)
    for seed in range(4):
        reseed(seed)
        lam = np.random.beta(1, 1)
        draws = torch.rand(1, *(math.ceil(side / cell) for side in size))[0].tolist()
        reseed(seed)
        plan = mixer.draw(images)
        mask = mixing.expand_mask(oracle.grid_cells(draws, lam), cell, *size)
        check_plan(plan, images, [mask] * num)


def test_default_is_7_x_7_cells_for_all_images():
    plan = GridMix().draw(torch.zeros(4, 3, 224, 224))
    assert plan.mask.shape == (1, 7, 7)
    assert plan.cell == 32


def test_labels_are_the_share_of_pixels():
    """Image ``i`` is ``i`` everywhere; cropped cells count less."""
    images = torch.arange(5).float()[:, None, None, None].expand(5, 3, 40, 72)
    for _ in range(20):
        mixed, labels = GridMix(mask_size=16)(images, torch.eye(5))
        for i in range(5):
            shares = np.bincount(mixed[i, 0].flatten().int(), minlength=5) / mixed[i, 0].numel()
            np.testing.assert_allclose(labels[i], shares, rtol=0, atol=1e-6)


@pytest.mark.parametrize('lam', [0.0, 1.0])
def test_extremes_of_lam(lam, fixed_lam):
    fixed_lam(lam)
    plan = GridMix(mask_size=8).draw(torch.zeros(3, 3, 32, 32))
    assert (plan.mask == bool(lam)).all()
    assert plan.lam.tolist() == [lam] * 3


def test_cells_are_drawn_independently(fixed_lam):
    """16 outcomes of 4 cells: 15 degrees of freedom, 37.7 is the 0.1 % quantile."""
    fixed_lam(0.3)
    mixer, images = GridMix(mask_size=8), torch.zeros(1, 1, 16, 16)
    seen = Counter(tuple(mixer.draw(images).mask.flatten().tolist()) for _ in range(4000))
    assert len(seen) == 16
    expected = {cells: 4000 * 0.3 ** sum(cells) * 0.7 ** (4 - sum(cells)) for cells in seen}
    assert sum((seen[cells] - expected[cells]) ** 2 / expected[cells] for cells in seen) < 37.7


@pytest.mark.parametrize('alpha', [0.5, 1.0, 4.0])
def test_share_follows_the_beta_distribution(alpha):
    """Mean 1/2; variance that of Beta(a, a), 1 / (4 (2a + 1)), and what 16 draws of a cell add."""
    mixer, images = GridMix(mask_size=8, alpha=alpha), torch.zeros(2, 1, 32, 32)
    shares = torch.stack([mixer.draw(images).lam for _ in range(3000)])
    assert (shares[:, 0] == shares[:, 1]).all()  # one draw for the batch
    beta = 1 / (4 * (2 * alpha + 1))
    variance = beta + (0.25 - beta) / 16
    assert shares[:, 0].mean().item() == pytest.approx(0.5, abs=5 * math.sqrt(variance / 3000))
    assert shares[:, 0].var().item() == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize('prob', [0, 0.5, 1])
def test_prob_is_honoured(prob):
    mixer, images = GridMix(mask_size=8, prob=prob), torch.zeros(2, 1, 16, 16)
    mixed = sum(mixer.plan(images) is not None for _ in range(1000))
    assert abs(mixed - 1000 * prob) <= (80 if prob == 0.5 else 0)


@pytest.mark.parametrize(
    ('kwargs', 'named'),
    [
        (dict(mask_size=0), 'mask_size'),
        (dict(mask_size=7.0), 'mask_size'),
        (dict(alpha=0), 'alpha'),
        (dict(prob=2), 'prob'),
    ],
)
def test_arguments_out_of_range_are_named(kwargs, named):
    with pytest.raises(ValueError, match=named):
        GridMix(**kwargs)


def test_unknown_argument_is_named():
    with pytest.raises(TypeError, match='grid'):
        BATCH_AUGMENTS.build(dict(type='GridMix', grid=7))


def test_one_cell_is_refused():
    with pytest.raises(ValueError, match='mask_size=32 makes one cell of images of 32 x 24 px'):
        GridMix().draw(torch.zeros(2, 3, 32, 24))


def test_token_stride():
    GridMix().check_token_stride(16)
    with pytest.raises(ValueError, match=r'mask_size=32 .*14 px.*multiple of 14'):
        GridMix().check_token_stride(14)
