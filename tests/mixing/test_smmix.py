# Copyright (c) MMMixPro contributors.
import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from mmpretrain.registry import BATCH_AUGMENTS, MODELS
from oracles import smmix as oracle
from torch.profiler import ProfilerActivity, profile

from mmmixpro.mixing import SMMix

# Batch, token grid, stride in pixels: DeiT's and PVT's at 224 px, oblong ones, the smallest.
CASES = [(1, (4, 4), 16), (2, (7, 7), 32), (3, (14, 14), 16), (5, (4, 9), 8), (4, (6, 2), 4), (3, (1, 2), 4)]


class Motivator:
    """Stands for the classifier under training."""

    def __init__(self, num, grid):
        self.attention = torch.rand(num, *grid)
        self.logits = torch.randn(num, 7)

    def motivate(self, images):
        return self.logits, self.attention


def coded(num, grid, stride):
    """Images whose every pixel tells image, cell, and place within the cell."""
    place = torch.arange(stride * stride).view(stride, stride).repeat(*grid)
    cell = torch.arange(math.prod(grid)).view(grid).repeat_interleave(stride, 0).repeat_interleave(stride, 1)
    pixels = torch.stack([torch.zeros_like(cell), cell, place])
    images = pixels.repeat(num, 1, 1, 1)
    images[:, 0] = torch.arange(num)[:, None, None]
    return images.float()


def side_of(plan):
    (count,) = set((~plan.mask).sum((1, 2)).tolist())  # one for the batch
    return math.isqrt(count)


@pytest.mark.parametrize(('num', 'grid', 'stride'), CASES)
def test_most_seen_region_covers_the_least_seen(num, grid, stride):
    images, before = coded(num, grid, stride), coded(num, grid, stride)
    for _ in range(20):
        model = Motivator(num, grid)
        plan = SMMix().draw(images, model)
        side = side_of(plan)
        assert side**2 == (~plan.mask)[0].sum()
        assert sorted(plan.partner.tolist()) == list(range(num))
        assert (plan.cell, plan.size) == (stride, tuple(images.shape[2:]))
        assert plan.clean_logits is model.logits

        mixed = plan.mix_images(images)
        assert mixed.dtype == images.dtype
        assert mixed.is_contiguous()
        labels = plan.mix_scores(torch.eye(num), plan.lam, 1 - plan.lam)
        scores = model.attention.double().numpy()
        for i, j in enumerate(plan.partner.tolist()):
            shown = oracle.cell_sources(scores[i], scores[j], side)
            expected = oracle.mix_cells(before[i].numpy(), before[j].numpy(), shown, stride)
            np.testing.assert_allclose(mixed[i], expected, rtol=0, atol=1e-6)
            assert plan.mask[i].tolist() == [[source is None for source in row] for row in shown]
            shares = np.bincount(mixed[i, 0].flatten().int(), minlength=num) / mixed[i, 0].numel()
            np.testing.assert_allclose(labels[i], shares, rtol=0, atol=1e-7)
        assert (plan.lam == np.float32(oracle.lambda_area(side, *grid))).all()
    assert torch.equal(images, before)


def test_gather_names_the_cell_of_the_partner():
    """Where the mask is False; read off the images."""
    num, grid, stride = 4, (5, 6), 4
    images = coded(num, grid, stride)
    plan = SMMix().draw(images, Motivator(num, grid))
    cells = plan.mix_images(images)[:, 1, ::stride, ::stride].flatten(1)
    covered = ~plan.mask.flatten(1)
    assert torch.equal(plan.gather[covered], cells[covered].long())
    assert (plan.gather >= 0).all()
    assert (plan.gather < math.prod(grid)).all()
    # Not co-located, or the test could not tell.
    assert (plan.gather != torch.arange(math.prod(grid)))[covered].any()


@pytest.mark.parametrize(
    ('grid', 'ratios', 'sides'),
    [
        ((14, 14), {}, range(3, 11)),
        ((7, 7), {}, range(1, 6)),
        ((14, 7), {}, range(1, 6)),
        ((2, 2), {}, [1]),
        ((3, 3), {}, [1, 2]),
        ((8, 8), dict(min_side_ratio=0.5, max_side_ratio=0.5), [4]),
        ((8, 8), dict(min_side_ratio=0, max_side_ratio=0.5), range(1, 5)),
    ],
)
def test_side_is_uniform(grid, ratios, sides):
    mixer, model = SMMix(**ratios), Motivator(1, grid)
    images = torch.zeros(1, 1, *grid)
    total = 150 * len(sides)
    counts = Counter(side_of(mixer.draw(images, model)) for _ in range(total))
    assert set(counts) == set(sides)
    spread = 5 * math.sqrt(total / len(sides) * (1 - 1 / len(sides)))
    for side in sides:
        assert abs(counts[side] - 150) <= spread, counts


def test_partners_and_sides_differ_between_batches():
    images, model = torch.zeros(6, 1, 14, 14), Motivator(6, (14, 14))
    plans = [SMMix().draw(images, model) for _ in range(20)]
    assert len({tuple(plan.partner.tolist()) for plan in plans}) > 10
    assert len({side_of(plan) for plan in plans}) > 3


@pytest.mark.parametrize('prob', [0, 0.5, 1])
def test_prob_is_honoured(prob):
    mixer, images, model = SMMix(prob=prob), torch.zeros(2, 1, 8, 8), Motivator(2, (4, 4))
    mixed = sum(mixer.plan(images, model) is not None for _ in range(400))
    assert abs(mixed - 400 * prob) <= (50 if prob == 0.5 else 0)


def test_takes_one_more_batch_of_memory():
    images = torch.randn(16, 3, 128, 128)
    plan = SMMix().draw(images, Motivator(16, (8, 8)))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        mixed = plan.mix_images(images)
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == '[memory]')
    peak = max(itertools.accumulate(size for _, size in changes))
    assert mixed.nbytes <= peak <= 1.02 * mixed.nbytes


@pytest.mark.parametrize(
    ('kwargs', 'named'),
    [
        (dict(prob=2), 'prob'),
        (dict(min_side_ratio=-0.1), r'min_side_ratio=-0\.1'),
        (dict(max_side_ratio=1), 'max_side_ratio=1'),
        (dict(min_side_ratio=0.6, max_side_ratio=0.5), r'min_side_ratio=0\.6, max_side_ratio=0\.5'),
    ],
)
def test_arguments_out_of_range_are_named(kwargs, named):
    with pytest.raises(ValueError, match=named):
        SMMix(**kwargs)


def test_unknown_argument_is_named():
    with pytest.raises(TypeError, match=r'SMMix.*side_ratio'):
        BATCH_AUGMENTS.build(dict(type='SMMix', side_ratio=0.5))


def test_image_of_one_token():
    with pytest.raises(ValueError, match='a single one'):
        SMMix().draw(torch.zeros(2, 3, 32, 32), Motivator(2, (1, 1)))


@pytest.mark.parametrize('type', ['MixClassifier', 'PALClassifier'])
def test_another_classifier_is_refused_when_it_is_built(type, classifier_cfg):
    with pytest.raises(ValueError, match=rf"SMMixClassifier, found {type}.*model.type='SMMixClassifier'"):
        MODELS.build(classifier_cfg(type=type, augments=[dict(type='SMMix')]))


def test_a_stock_classifier_is_refused_at_its_first_batch(classifier_cfg, make_batch):
    """It builds its augments by itself."""
    cfg = classifier_cfg(type='ImageClassifier', augments=[dict(type='SMMix')])
    model = MODELS.build({**cfg, 'data_preprocessor': dict(num_classes=7)})
    images, samples, _ = make_batch(2)
    with pytest.raises(ValueError, match=r"found mmpretrain's own.*model.type='SMMixClassifier'"):
        model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
