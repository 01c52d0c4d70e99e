# Copyright (c) MMMixPro contributors.
import dataclasses

import numpy as np
import pytest
import torch
from oracles import mixing as oracle
from torch.nn import functional as F

from mmmixpro.structures import MixPlan

# Cell and image size in pixels: exact, cropped in one direction and in both, one cell, boxes.
GRIDS = [
    (4, (8, 12)),
    (4, (10, 8)),
    (5, (13, 17)),
    (32, (48, 80)),
    (16, (9, 11)),
    (1, (6, 7)),
]


def random_plan(num, cell, size, shared=False):
    grid = [-(-side // cell) for side in size]
    mask = torch.rand(1 if shared else num, *grid) < 0.5
    return MixPlan(torch.randperm(num), mask, cell, size)


def pixel_masks(plan, num):
    masks = [oracle.expand_mask(mask, plan.cell, *plan.size) for mask in plan.mask.numpy()]
    return masks * num if len(masks) == 1 else masks


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize(('cell', 'size'), GRIDS)
def test_plan_is_that_of_the_equations(cell, size, shared):
    num = 3
    plan = random_plan(num, cell, size, shared)
    masks = pixel_masks(plan, num)
    images = torch.randn(num, 2, *size)

    np.testing.assert_array_equal(plan.pixel_mask().expand(num, -1, -1).numpy(), masks)
    np.testing.assert_array_equal(
        plan.mix_images(images), oracle.mix_images(images.numpy(), plan.partner.numpy(), masks)
    )
    # Exact: the float32 next to the true share.
    shares = np.float32([oracle.lambda_area(mask) for mask in masks])
    assert plan.lam.dtype == torch.float32
    np.testing.assert_array_equal(plan.lam, shares)


@pytest.mark.parametrize('tokens', [(1, 1), (2, 3), (3, 2), (5, 4), (7, 7), (13, 9)])
@pytest.mark.parametrize(('cell', 'size'), GRIDS)
def test_coverage_is_the_mask_seen_on_tokens(cell, size, tokens):
    num = 3
    plan = random_plan(num, cell, size)
    masks = pixel_masks(plan, num)

    area = plan.coverage(*tokens)
    assert area.shape == (num, *tokens)
    assert area.dtype == torch.float32
    np.testing.assert_allclose(area, [oracle.down_area(mask, *tokens) for mask in masks], atol=1e-6)
    torch.testing.assert_close(area.mean((1, 2)), plan.lam)

    nearest = plan.coverage(*tokens, nearest=True)
    np.testing.assert_array_equal(nearest, [oracle.down_nearest(mask, *tokens) for mask in masks])


@pytest.mark.parametrize('shared', [False, True])
def test_coverage_of_a_box_that_all_share(shared):
    plan = random_plan(4, 1, (12, 20), shared)
    masks = pixel_masks(plan, 4)
    for nearest, down in ((False, oracle.down_area), (True, oracle.down_nearest)):
        expected = [down(mask, 3, 5) for mask in masks]
        np.testing.assert_allclose(plan.coverage(3, 5, nearest), expected, atol=1e-6)


@pytest.mark.parametrize(('size', 'tokens'), [((224, 224), (14, 14)), ((96, 160), (3, 5))])
def test_nearest_is_what_interpolation_gives(size, tokens):
    plan = random_plan(2, 1, size)
    mask = plan.pixel_mask()[:, None].float()
    torch.testing.assert_close(plan.coverage(*tokens, nearest=True), F.interpolate(mask, tokens)[:, 0])


@pytest.mark.parametrize(('cell', 'size', 'tokens'), [(64, (224, 224), (14, 14)), (64, (224, 160), (7, 5))])
def test_cells_of_whole_tokens_leave_no_token_in_between(cell, size, tokens):
    plan = random_plan(4, cell, size)
    area = plan.coverage(*tokens)
    assert set(area.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(area, plan.coverage(*tokens, nearest=True), rtol=0, atol=0)


@pytest.mark.parametrize('dtype', ['uint8', 'int64', 'float16', 'bfloat16', 'float32', 'float64'])
def test_mixing_keeps_dtype_and_input(dtype):
    plan = random_plan(3, 4, (10, 12))
    images = torch.randint(0, 255, (3, 3, 10, 12)).to(getattr(torch, dtype))
    before = images.clone()
    mixed = plan.mix_images(images)

    assert mixed.dtype == images.dtype
    assert torch.equal(images, before)
    assert mixed.data_ptr() != images.data_ptr()
    mask = plan.pixel_mask()[:, None].expand_as(images)
    assert torch.equal(mixed[mask], before[mask])
    assert torch.equal(mixed[~mask], before[plan.partner][~mask])


@pytest.mark.parametrize('layout', ['channels_last', 'flipped', 'expanded', 'requires_grad'])
def test_mixing_any_layout(layout):
    plan = random_plan(3, 4, (10, 12))
    images = torch.randn(3, 3, 10, 12)
    if layout == 'channels_last':
        images = images.to(memory_format=torch.channels_last)
    elif layout == 'flipped':
        images = images.transpose(2, 3).contiguous().transpose(2, 3)
    elif layout == 'expanded':
        images = images[:, :1].expand(-1, 3, -1, -1)
    else:
        images.requires_grad_()
    mixed = plan.mix_images(images)
    assert torch.equal(mixed, plan.mix_images(images.detach().clone().contiguous()))
    if layout == 'channels_last':
        assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_scores_are_weighed_per_image():
    plan = random_plan(3, 4, (8, 8))
    scores, w_i, w_j = torch.rand(3, 5), torch.rand(3), torch.rand(3)
    expected = [
        oracle.mix_labels(scores[i].tolist(), scores[plan.partner[i]].tolist(), w_i[i].item(), w_j[i].item())
        for i in range(3)
    ]
    before = scores.clone()
    np.testing.assert_allclose(plan.mix_scores(scores, w_i, w_j), expected, atol=1e-6)
    assert torch.equal(scores, before)


def test_lam_given_is_kept():
    lam = torch.tensor([0.25, 0.75])
    plan = MixPlan(torch.tensor([1, 0]), torch.ones(2, 2, 2, dtype=torch.bool), 4, (8, 8), lam)
    assert torch.equal(plan.lam, lam)


@pytest.mark.parametrize('shape', [(2, 2, 3), (2, 3, 2), (3, 2, 2)])
def test_a_mask_that_does_not_fit_is_our_own_mistake(shape):
    with pytest.raises(AssertionError):
        MixPlan(torch.tensor([1, 0]), torch.ones(shape, dtype=torch.bool), 4, (8, 8))


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize(('cell', 'size'), [(4, (8, 12)), (16, (48, 32)), (1, (3, 4))])
def test_cells_of_the_partner_from_elsewhere(cell, size, shared):
    num = 4
    plan = random_plan(num, cell, size, shared)
    grid = plan.mask.shape[1:]
    gather = torch.randint(grid.numel(), (num, grid.numel()))
    plan = dataclasses.replace(plan, gather=gather)
    images = torch.randn(num, 3, *size)
    before = images.clone()
    for layout in (images, images.to(memory_format=torch.channels_last), images.byte(), images.double()):
        mixed = plan.mix_images(layout)
        assert mixed.dtype == layout.dtype
        assert mixed.data_ptr() != layout.data_ptr()
        assert mixed.is_contiguous(memory_format=torch.channels_last) or layout.is_contiguous()
        for i, own in enumerate(plan.mask.expand(num, -1, -1).flatten(1).tolist()):
            for here, (kept, there) in enumerate(zip(own, gather[i].tolist(), strict=True)):
                source, place = (i, here) if kept else (plan.partner[i], there)
                cells = [
                    (slice(None), *(slice(k * cell, (k + 1) * cell) for k in divmod(p, grid[1]))) for p in (here, place)
                ]
                assert torch.equal(mixed[i][cells[0]], layout[source][cells[1]])
    assert torch.equal(images, before)
    # All else is as without it.
    assert torch.equal(plan.lam, area_shares(plan))


def area_shares(plan):
    masks = pixel_masks(plan, len(plan.partner))
    return torch.tensor([oracle.lambda_area(mask) for mask in masks], dtype=torch.float32)


@pytest.mark.parametrize(('gather', 'size'), [((2, 3), (8, 8)), ((1, 4), (8, 8)), ((2, 4), (8, 7))])
def test_a_gather_that_does_not_fit_is_our_own_mistake(gather, size):
    mask = torch.ones(2, 2, 2, dtype=torch.bool)
    with pytest.raises(AssertionError):
        MixPlan(torch.tensor([1, 0]), mask, 4, size, gather=torch.zeros(gather, dtype=torch.int64))
