# Copyright (c) MMMixPro contributors.
"""Which patches are hidden, and which pixels these are, against loops over exact fractions."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from oracles import occlusion as oracle

from mmmixpro.datasets.patches import (
    KINDS,
    as_grid,
    exact,
    hide_first,
    hide_last,
    num_hidden,
    occlude,
    random_ranks,
    salient_ranks,
)

# Grids that divide the image and that do not, oblong ones, one patch, a patch for each pixel.
CASES = [
    ((14, 14), (224, 224), (7, 7)),
    ((14, 14), (64, 64), (4, 4)),
    ((3, 5), (17, 23), (4, 7)),
    ((4, 4), (32, 32), (4, 4)),
    ((5, 2), (11, 9), (1, 1)),
    ((1, 1), (7, 5), (3, 3)),
    ((6, 9), (6, 9), (4, 4)),
]
RATIOS = [0.0, 0.05, 0.1, 0.145, 0.3, 0.35, 0.5, 0.7, 0.9, 1 / 3, 1.0]


@pytest.mark.parametrize('patches', [1, 2, 5, 10, 25, 49, 100, 196, 1000])
def test_as_many_as_asked(patches):
    """Halves up, of the ratio as it is written: 0.145 of 100 is 15, though 0.145 * 100 < 14.5."""
    ranks = torch.stack([torch.randperm(patches) for _ in range(3)])
    for ratio in RATIOS:
        expected = oracle.count(ratio, patches)
        assert num_hidden(ratio, patches) == expected
        assert (hide_first(ranks, ratio).sum(1) == expected).all()
    assert num_hidden(0.145, 100) == 15


@pytest.mark.parametrize('patches', [1, 15, 25, 196])
def test_first_and_last_divide_the_image(patches):
    ranks = torch.stack([torch.randperm(patches) for _ in range(3)])
    for percent in range(101):
        ratio, rest = percent / 100, (100 - percent) / 100
        assert (hide_first(ranks, ratio) ^ hide_last(ranks, rest)).all()
        assert (hide_last(ranks, ratio).sum(1) - patches * ratio).abs().max() <= 0.5 + 1e-9


@pytest.mark.parametrize('kind', KINDS.values(), ids=KINDS)
def test_more_is_hidden_beside_what_was(kind):
    ranks = random_ranks(range(4), 15, seed=3)
    hidden = [kind.hide(ranks, ratio) for ratio in RATIOS[:-2] + RATIOS[-1:]]
    for less, more in itertools.pairwise(hidden):
        assert (more | ~less).all()
    assert not hidden[0].any()
    assert hidden[-1].all()


@pytest.mark.parametrize(('grid', 'size', 'cells'), CASES)
@pytest.mark.parametrize('levels', [1, 3, 1000])
def test_salient_order(grid, size, cells, levels):
    """Also of maps of few values, down to one: equal patches follow one another as they are counted."""
    rng = np.random.default_rng(0)
    maps = rng.integers(1, levels + 1, (2, *cells)).astype(np.float32) / 7
    ranks = salient_ranks(torch.from_numpy(maps), grid, size)
    for image, rank in zip(maps, ranks, strict=True):
        assert rank.argsort().tolist() == oracle.salient_order(image, grid, size)
    if levels == 1:
        assert (ranks == torch.arange(grid[0] * grid[1])).all()


@pytest.mark.parametrize(('grid', 'size', 'cells'), CASES)
@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
def test_pixels(grid, size, cells, dtype):
    images = torch.randint(1, 256, (3, 3, *size)).to(dtype)
    before = images.clone()
    for ratio in (0.0, 0.3, 0.5, 1.0):
        hidden = hide_first(random_ranks([5, 1, 9], grid[0] * grid[1], seed=0), ratio)
        shown = occlude(images, hidden, grid)
        assert shown.dtype == dtype
        for image, mask, result in zip(images, hidden, shown, strict=True):
            patches = mask.nonzero().flatten().tolist()
            expected = oracle.occlude(image.permute(1, 2, 0).numpy(), patches, grid)
            np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), expected)
            assert oracle.hidden_patches(expected, grid) == patches
    assert torch.equal(images, before)


def test_random_order_is_the_images_own():
    ranks = random_ranks([7, 3, 12], 196, seed=0)
    assert torch.equal(random_ranks([12, 7], 196, seed=0), ranks[[2, 0]])
    assert (ranks.sort(1).values == torch.arange(196)).all()
    for other in (ranks[[1, 2, 0]], random_ranks([7, 3, 12], 196, seed=1), random_ranks([0, 7, 3], 196, seed=7)):
        assert (ranks != other).any(1).all()
    # Each patch comes first as often as any other.
    first = random_ranks(range(4000), 8, seed=0).argmin(1).bincount()
    assert (first - 500).abs().max() < 100


def test_mistakes():
    for ratio in (-0.1, 1.01, float('nan')):
        with pytest.raises(ValueError):
            exact(ratio)
    with pytest.raises(ValueError, match=r'share of the patches in \[0, 1\], got 30'):
        exact(30)
    assert exact(np.float64(0.1)) == exact(np.float32(0.1)) == exact(Fraction(1, 10)) == Fraction(1, 10)
    for grid in (0, (3, 0), (1, 2, 3), (2.0, 2)):
        with pytest.raises(ValueError, match='Expected a grid'):
            as_grid(grid)
    assert as_grid(3) == as_grid([3, 3]) == (3, 3)
    with pytest.raises(ValueError, match='5 x 4 patches does not fit into 4 x 4 px'):
        occlude(torch.ones(1, 3, 4, 4), torch.ones(1, 20, dtype=torch.bool), (5, 4))
    for wrong in (float('nan'), float('inf')):
        with pytest.raises(ValueError, match='finite'):
            salient_ranks(torch.tensor([[[1.0, wrong]]]), (1, 2), (4, 4))
