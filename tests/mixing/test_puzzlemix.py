# Copyright (c) MMMixPro contributors.
import itertools
import math
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.registry import BATCH_AUGMENTS, MODELS
from oracles import puzzlemix as oracle

from mmmixpro.mixing import PuzzleMix
from mmmixpro.mixing.graph_cut import min_cut, transport

# Batch, grid, side of a cell in pixels, values of the mask.
CASES = [
    (1, (2, 2), 8, 3),
    (2, (2, 2), 7, 2),
    (4, (2, 2), 1, 5),
    (3, (2, 3), 4, 3),
    (5, (3, 2), 6, 2),
    (2, (2, 3), 16, 4),
]
SHARP = 8  # how far apart the saliencies of cells are
# Lambda and xi; to move anything on grids this small is worth it where it costs little.
DRAWS = [(0.08, 0.8), (0.3, 0.05), (0.45, 0.1), (0.6, 0.02), (0.8, 0.8)]


class Guide:
    """Stands for the classifier under training, with gradients that are large in some cells."""

    def __init__(self, num, grid, cell, std=(50.0, 60.0, 70.0), sharp=SHARP):
        height, width = (side * cell for side in grid)
        strength = torch.rand(num, 1, *grid).pow(sharp) + 1e-3
        strength = strength.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
        self.gradients = 1e-4 * strength * torch.randn(num, 3, height, width)
        self.data_preprocessor = SimpleNamespace(
            _enable_normalize=std is not None, std=None if std is None else torch.tensor(std).view(3, 1, 1)
        )

    def image_gradients(self, images, scores):
        assert scores.shape == (len(images), len(images))
        return self.gradients


def coloured(num, grid, cell):
    """Normalised images of a colour for each cell, and some texture."""
    cells = torch.rand(num, 3, *grid).repeat_interleave(cell, 2).repeat_interleave(cell, 3)
    return 4 * (cells - 0.5) + 0.3 * torch.randn(cells.shape)


def coded(num, grid, cell):
    """Images whose every pixel tells image, cell, and place within the cell."""
    place = torch.arange(cell * cell).view(cell, cell).repeat(*grid)
    number = torch.arange(math.prod(grid)).view(grid).repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    images = torch.stack([torch.zeros_like(number), number, place]).repeat(num, 1, 1, 1)
    images[:, 0] = torch.arange(num)[:, None, None]
    return images.float()


def fixed_grid(grid, **kwargs):
    return PuzzleMix(min_blocks=min(grid), max_blocks=min(grid), **kwargs)


def expected_plan(images, gradients, partner, lam, cell, labels, std, xi):
    """Of each image, by trying them all: its mask, all of the best moves of both images, and how far the second best
    mask is."""
    colours = images.double().numpy() * np.array(std)[:, None, None] / 255
    saliency = [oracle.saliency(gradient, cell) for gradient in gradients.double().numpy()]
    masks = oracle.all_masks(*saliency[0].shape, labels)
    for i, j in enumerate(partner):
        terms = oracle.pair_terms(colours[i], colours[j], cell)
        energies = oracle.energies(masks, saliency[i], saliency[j], terms, lam, labels)
        mask = masks[energies.argmin()]
        moves = [oracle.best_moves(s, z, xi)[0] for s, z in ((saliency[i], mask), (saliency[j], 1 - mask))]
        yield mask, *moves, np.diff(np.sort(energies)[:2]).item()


def as_move(gather, grid):
    """``{place: cell}``."""
    return {divmod(place, grid[1]): divmod(cell, grid[1]) for place, cell in enumerate(gather.tolist())}


@pytest.mark.parametrize(('lam', 'xi'), DRAWS)
@pytest.mark.parametrize(('num', 'grid', 'cell', 'labels'), CASES)
def test_plan_is_the_oracles(num, grid, cell, labels, lam, xi, fixed_lam):
    fixed_lam(lam)
    guide, images = Guide(num, grid, cell), coloured(num, grid, cell)
    before = images.clone()
    plan = fixed_grid(grid, n_labels=labels, xi=xi).draw(images, guide, torch.eye(num))
    partner = plan.partner.tolist()
    assert sorted(partner) == list(range(num))
    assert (plan.cell, plan.size) == (cell, tuple(images.shape[2:]))
    std = guide.data_preprocessor.std.flatten().tolist()
    mixed = plan.mix_images(images)
    assert mixed.dtype == images.dtype
    target = plan.mix_scores(torch.eye(num), plan.lam, 1 - plan.lam)
    expected = expected_plan(before, guide.gradients, partner, lam, cell, labels, std, xi)
    for i, (mask, own_moves, other_moves, apart) in enumerate(expected):
        assert apart > 1e-6  # or it would be one of several
        own, other = as_move(plan.own_gather[i], grid), as_move(plan.gather[i], grid)
        assert own in own_moves
        assert other in other_moves
        np.testing.assert_allclose(plan.mask[i], mask, rtol=0, atol=1e-6)
        wanted = oracle.mix_cells(before[i].numpy(), before[partner[i]].numpy(), mask, own, other, cell)
        np.testing.assert_allclose(mixed[i], wanted, rtol=0, atol=1e-6)
        np.testing.assert_allclose(plan.lam[i], mask.mean(), rtol=0, atol=1e-6)
        label = mask.mean() * np.eye(num)[i] + (1 - mask.mean()) * np.eye(num)[partner[i]]
        np.testing.assert_allclose(target[i], label, rtol=0, atol=1e-6)
    assert torch.equal(images, before)


def test_the_cases_show_what_there_is_to_see(fixed_lam):
    """Masks that part an image, blends, and cells that move."""
    parted = blended = moved = 0
    for num, grid, cell, labels in CASES:
        for lam, xi in DRAWS:
            fixed_lam(lam)
            mixer = fixed_grid(grid, n_labels=labels, xi=xi)
            plan = mixer.draw(coloured(num, grid, cell), Guide(num, grid, cell), torch.eye(num))
            parted += (plan.mask.amax((1, 2)) > plan.mask.amin((1, 2))).sum().item()
            blended += ((plan.mask > 0) & (plan.mask < 1)).sum().item()
            moved += (plan.own_gather != torch.arange(math.prod(grid))).sum().item()
    assert parted > 5
    assert blended > 5
    assert moved > 5


@pytest.mark.parametrize(
    ('grid', 'labels'), [((4, 4), 2), ((1, 7), 3), ((3, 3), 3), ((2, 3), 5), ((3, 2), 4), ((2, 2), 9)]
)
def test_cut_is_the_global_minimum(grid, labels):
    """For any number of labels; grids of a batch are apart, though one cut solves all."""
    gh, gw = grid
    every = np.array(list(itertools.product(range(labels), repeat=gh * gw))).reshape(-1, gh, gw)
    for strength in (0, 0.3, 1, 4):
        slope = np.random.randn(6, gh, gw)
        prior = np.random.randn(labels)
        down, right = strength * np.random.rand(6, gh - 1, gw), strength * np.random.rand(6, gh, gw - 1)
        found = min_cut(slope, prior, down, right)
        assert found.shape == slope.shape
        for k in range(6):
            terms = slope[k], prior, down[k], right[k]
            least = oracle.cut_energy(every, *terms).min()
            np.testing.assert_allclose(oracle.cut_energy(found[k : k + 1], *terms), least, rtol=0, atol=1e-9)


@pytest.mark.parametrize('grid', [(2, 2), (2, 3), (1, 6)])
@pytest.mark.parametrize('xi', [0.05, 0.8])
def test_transport_is_the_best_permutation(grid, xi):
    for _ in range(4):
        gain = np.random.gamma(0.3, size=grid)
        share = np.random.choice([0, 0.5, 1], size=grid)
        best, least = oracle.best_moves(gain, share, xi)
        places = list(best[0])
        way = np.array([[(a - c) ** 2 + (b - d) ** 2 for c, d in places] for a, b in places])
        cost = xi * way / (max(grid) - 1) ** 2
        (moved,) = transport(gain.reshape(1, -1), share.reshape(1, -1), cost)
        assert sorted(moved) == list(range(len(places)))
        found = sum(cost[i, j] - share.flat[j] * gain.flat[i] for j, i in enumerate(moved))
        assert found == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize('size', [(224, 224), (64, 64), (224, 160)])
def test_every_place_shows_one_cell_of_each_image(size):
    """On the grids of ImageNet; no holes, and shares that add up."""
    num, seen = 3, set()
    for _ in range(20):
        unit = math.gcd(*size) // 32
        guide = Guide(num, (size[0] // unit, size[1] // unit), unit, std=None, sharp=2)
        plan = PuzzleMix(n_labels=2).draw(torch.zeros(num, 3, *size), guide, torch.eye(num))
        grid = tuple(side // plan.cell for side in size)
        seen.add(plan.cell)
        images = coded(num, grid, plan.cell)
        mixed = plan.mix_images(images)
        cells = mixed[:, :, :: plan.cell, :: plan.cell]
        # Whole cells: the first pixel tells where all are from.
        number = cells[:, 1].repeat_interleave(plan.cell, 1).repeat_interleave(plan.cell, 2)
        assert torch.equal(mixed[:, 1], number)
        assert torch.equal(mixed[:, 2], images[:, 2])
        own = torch.arange(num).view(-1, 1, 1)
        assert torch.equal(cells[:, 0].long(), torch.where(plan.mask == 1, own, plan.partner.view(-1, 1, 1)))
        gather = torch.where(plan.mask.flatten(1) == 1, plan.own_gather, plan.gather)
        assert torch.equal(cells[:, 1].flatten(1).long(), gather)
        for moved in (plan.own_gather, plan.gather):
            assert torch.equal(moved.sort(1).values, torch.arange(math.prod(grid)).expand(num, -1))
        share = plan.mix_scores(torch.eye(num), plan.lam, 1 - plan.lam)
        for i in range(num):
            counts = torch.bincount(mixed[i, 0].flatten().long(), minlength=num)
            torch.testing.assert_close(share[i], counts / mixed[i, 0].numel(), rtol=0, atol=1e-6)
    assert len(seen) > 1


@pytest.mark.parametrize(
    ('size', 'cells'),
    [
        ((224, 224), [14, 28, 56, 112]),
        ((64, 64), [4, 8, 16, 32]),
        ((224, 160), [16, 32]),
        ((48, 80), [4, 8, 16]),
        ((32, 8), [1, 2, 4]),
        ((6, 6), [3]),
    ],
)
def test_grids_are_equally_likely(size, cells):
    counts = Counter(PuzzleMix()._draw_cell(*size) for _ in range(200 * len(cells)))
    assert sorted(counts) == cells
    assert all(abs(count - 200) < 5 * math.sqrt(200) for count in counts.values())


@pytest.mark.parametrize('size', [(225, 224), (17, 51), (1, 64)])
def test_images_that_no_grid_fits(size):
    with pytest.raises(ValueError, match=f'2 to 16 square cells a side fits images of {size[0]} x {size[1]} px'):
        PuzzleMix().draw(torch.zeros(2, 3, *size), Guide(2, (1, 1), 1), torch.eye(2))


def test_salient_cells_win_and_move_to_where_they_are_seen(fixed_lam):
    """Both objects in the same cell: one stays, the other moves next to it."""
    fixed_lam(0.5)
    grid, cell = (4, 4), 4
    guide = Guide(2, grid, cell)
    guide.gradients = torch.full_like(guide.gradients, 1e-6)
    # What parts the images: a little on the left of the one, on the right of the other.
    guide.gradients[0, :, :, :8] = guide.gradients[1, :, :, 8:] = 0.02
    guide.gradients[:, :, 4:8, 4:8] = 1.0
    images = coded(2, grid, cell)
    for _ in range(20):
        plan = fixed_grid(grid, n_labels=2, beta=0.01, xi=0.3).draw(images, guide, torch.eye(2))
        if plan.partner.tolist() == [1, 0]:
            break
    mixed = plan.mix_images(images)[:, :2, ::cell, ::cell]
    for i in range(2):
        salient = (mixed[i, 1] == 5).nonzero().tolist()  # cell (1, 1) of either image
        assert len(salient) == 2, mixed[i]
        assert {mixed[i, 0, a, b].item() for a, b in salient} == {0, 1}
        (a, b), (c, d) = salient
        assert (1, 1) in {(a, b), (c, d)}
        assert abs(a - c) + abs(b - d) == 1


@pytest.mark.parametrize('alpha', [0.5, 1.0, 4.0])
def test_share_follows_the_beta_distribution(alpha):
    """Images without saliency or colours follow the prior alone: its mode, floor((m + 1) lambda) / m."""
    guide = Guide(1, (2, 2), 1)
    guide.gradients.zero_()
    mixer, images = PuzzleMix(alpha, n_labels=11, max_blocks=2), torch.zeros(1, 3, 2, 2)
    shares = np.array([mixer.draw(images, guide, torch.eye(1)).lam.item() for _ in range(1500)])
    modes = np.floor(11 * np.random.beta(alpha, alpha, 20000)) / 10
    assert shares.mean() == pytest.approx(0.5, abs=5 * math.sqrt(modes.var() / 1500))
    assert shares.var() == pytest.approx(modes.var(), rel=0.2)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_constant_images(dtype):
    """Nothing to see, nothing salient: the mix is a blend, and finite."""
    guide, levels = Guide(3, (4, 4), 4), torch.tensor([1.0, 2.0, 4.0])
    guide.gradients.zero_()
    images = levels[:, None, None, None].expand(3, 3, 16, 16).to(dtype)
    for _ in range(10):
        plan = PuzzleMix().draw(images, guide, torch.eye(3))
        mixed = plan.mix_images(images)
        assert mixed.dtype == dtype
        expected = plan.lam * levels + (1 - plan.lam) * levels[plan.partner]
        torch.testing.assert_close(mixed.float().mean((1, 2, 3)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_gradients_that_are_not_finite(bad):
    guide = Guide(2, (4, 4), 4)
    guide.gradients[1, 0, 3, 3] = bad
    plan = PuzzleMix().draw(coloured(2, (4, 4), 4), guide, torch.eye(2))
    assert plan.lam.isfinite().all()


def test_tiny_gradients_count_as_large_ones():
    grid, cell = (4, 4), 4
    guide, images = Guide(2, grid, cell), coloured(2, grid, cell)
    plans = []
    for factor in (1.0, 1e-20):
        np.random.seed(0)
        torch.manual_seed(0)
        scaled = SimpleNamespace(
            data_preprocessor=guide.data_preprocessor, image_gradients=lambda *_, f=factor: f * guide.gradients
        )
        plans.append(fixed_grid(grid).draw(images, scaled, torch.eye(2)))
    assert torch.equal(plans[0].mask, plans[1].mask)


def test_colours_are_those_before_normalisation(fixed_lam):
    """The same images, normalised or not, are cut alike."""
    fixed_lam(0.5)
    grid, cell, num = (4, 4), 4, 6
    mean, std = torch.tensor([[100.0, 120, 140], [50, 60, 70]]).view(2, 3, 1, 1)
    normalised = coloured(num, grid, cell)
    plain, guided = Guide(num, grid, cell, std=None), Guide(num, grid, cell)
    guided.gradients = plain.gradients
    plans = []
    for images, guide in ((normalised, guided), (normalised * std + mean, plain)):
        torch.manual_seed(0)
        plans.append(fixed_grid(grid, beta=6.0, gamma=1.0).draw(images, guide, torch.eye(num)))
    assert torch.equal(plans[0].mask, plans[1].mask)
    torch.manual_seed(0)
    blind = fixed_grid(grid, beta=6.0, gamma=0.0).draw(normalised, guided, torch.eye(num))
    assert not torch.equal(plans[0].mask, blind.mask)


def test_coverage_and_pixel_mask_are_shares():
    grid, cell = (4, 6), 4
    plan = fixed_grid(grid).draw(coloured(5, grid, cell), Guide(5, grid, cell), torch.eye(5))
    assert ((plan.mask > 0) & (plan.mask < 1)).any()
    pixels = plan.mask.repeat_interleave(cell, 1).repeat_interleave(cell, 2)
    torch.testing.assert_close(plan.pixel_mask(), pixels)
    tokens = torch.nn.functional.avg_pool2d(pixels, 8)
    torch.testing.assert_close(plan.coverage(2, 3), tokens)
    torch.testing.assert_close(plan.lam, pixels.mean((1, 2)))


def test_channels_last_stays():
    grid, cell = (4, 4), 4
    images = coloured(3, grid, cell)
    plan = fixed_grid(grid).draw(images, Guide(3, grid, cell), torch.eye(3))
    expected = plan.mix_images(images)
    mixed = plan.mix_images(images.contiguous(memory_format=torch.channels_last))
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(mixed, expected)


@pytest.mark.parametrize('prob', [0, 0.25, 0.5, 1])
def test_prob_is_honoured(prob):
    mixer, images, guide = PuzzleMix(prob=prob), torch.zeros(2, 3, 4, 4), Guide(2, (2, 2), 2)
    mixed = sum(mixer.plan(images, guide, torch.eye(2)) is not None for _ in range(400))
    assert abs(mixed - 400 * prob) <= (50 if 0 < prob < 1 else 0)


@pytest.mark.parametrize(
    ('kwargs', 'named'),
    [
        (dict(prob=2), 'prob'),
        (dict(alpha=0), 'alpha'),
        (dict(n_labels=1), 'n_labels'),
        (dict(n_labels=2.5), 'n_labels'),
        (dict(beta=-1), 'beta=-1'),
        (dict(gamma=1.5), 'gamma=1.5'),
        (dict(eta=-0.1), 'eta=-0.1'),
        (dict(xi=0), 'xi=0'),
        (dict(min_blocks=1), 'min_blocks=1'),
        (dict(min_blocks=8, max_blocks=4), 'max_blocks=4'),
    ],
)
def test_arguments_out_of_range_are_named(kwargs, named):
    with pytest.raises(ValueError, match=named):
        PuzzleMix(**kwargs)


def test_unknown_argument_is_named():
    with pytest.raises(TypeError, match=r'PuzzleMix.*block_num'):
        BATCH_AUGMENTS.build(dict(type='PuzzleMix', block_num=4))


@pytest.mark.parametrize(('module', 'named'), [('maxflow', 'maxflow'), ('scipy.optimize', 'scipy')])
def test_missing_solver_is_named_at_construction(module, named, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'{named}.*mmmixpro\[puzzlemix\].*pip install PyMaxflow scipy') as error:
        PuzzleMix()
    assert error.value.__suppress_context__


def test_labels_are_needed():
    with pytest.raises(ValueError, match='expected scores'):
        PuzzleMix().draw(torch.zeros(2, 3, 8, 8), Guide(2, (2, 2), 4))


def test_a_stock_classifier_is_refused_at_its_first_batch(classifier_cfg, make_batch):
    cfg = classifier_cfg(type='ImageClassifier', augments=[dict(type='PuzzleMix')])
    model = MODELS.build({**cfg, 'data_preprocessor': dict(num_classes=7)})
    images, samples, _ = make_batch(2)
    with pytest.raises(ValueError, match=r"MixClassifier, found mmpretrain's own.*model.type='MixClassifier'"):
        model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
