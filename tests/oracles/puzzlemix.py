# Copyright (c) MMMixPro contributors.
"""PuzzleMix (arXiv 2009.06962, section 4): its energy, its masks and permutations by trying them all, its images."""

import itertools
import math

import numpy as np


def mean_of_blocks(plane, size):
    """``(H / size, W / size)`` means of ``(H, W)``."""
    h, w = plane.shape[0] // size, plane.shape[1] // size
    return np.array(
        [[plane[a * size : (a + 1) * size, b * size : (b + 1) * size].mean() for b in range(w)] for a in range(h)]
    )


def saliency(gradient, cell):
    """``(gh, gw)`` of sum 1: the mean length of the gradient ``(C, H, W)`` in each cell."""
    length = np.sqrt((np.float64(gradient) ** 2).sum(axis=0))
    cells = mean_of_blocks(length, cell)
    total = cells.sum()
    return cells / total if total else np.full(cells.shape, 1 / cells.size)


def neighbours(gh, gw):
    """Pairs of cells ``(a, b)``, the second below or to the right of the first."""
    for a in range(gh):
        for b in range(gw):
            if a + 1 < gh:
                yield (a, b), (a + 1, b)
            if b + 1 < gw:
                yield (a, b), (a, b + 1)


def border(image_p, image_q, p, q, cell):
    """Mean difference of colours across the border of cell ``p`` of one image and ``q`` of another."""
    (a, b), (c, _) = p, q
    total = 0.0
    for k in range(cell):
        if c > a:
            total += np.abs(image_p[:, (a + 1) * cell - 1, b * cell + k] - image_q[:, c * cell, b * cell + k]).mean()
        else:
            total += np.abs(
                image_p[:, a * cell + k, (b + 1) * cell - 1] - image_q[:, a * cell + k, (b + 1) * cell]
            ).mean()
    return total / cell


def pair_terms(own, other, cell, pool=2):
    """``{(p, q): (phi11, phi10, phi01, phi00)}``: 1 shows the image itself; colours ``(C, H, W)`` in [0, 1]."""
    pool = pool if cell % pool == 0 else 1
    own, other = (np.stack([mean_of_blocks(plane, pool) for plane in image]) for image in (own, other))
    cell //= pool
    gh, gw = own.shape[1] // cell, own.shape[2] // cell
    return {
        (p, q): [border(x, y, p, q, cell) for x, y in ((own, own), (own, other), (other, own), (other, other))]
        for p, q in neighbours(gh, gw)
    }


def energies(masks, s_own, s_other, terms, lam, num_labels, beta=1.2, gamma=0.5, eta=0.2):
    """``(K,)`` energies of ``(K, gh, gw)`` masks in [0, 1], nothing moved.

    The colours of two cells of which one shows both images are those of the four ways to show one each, in shares
    whose product term is that of ``(z_p - z_q)^2``, as in the released code.
    """
    gh, gw = s_own.shape
    n, top = gh * gw, num_labels - 1
    beta = beta / (16 * math.sqrt(n))
    total = np.zeros(len(masks))
    for a in range(gh):
        for b in range(gw):
            z = masks[:, a, b]
            total -= z * s_own[a, b] + (1 - z) * s_other[a, b]
            for t in range(num_labels):
                chance = math.comb(top, t) * lam**t * (1 - lam) ** (top - t)
                total -= np.isclose(z, t / top) * eta / n * math.log(chance + 1e-8)
    for (p, q), (both, first, second, none) in terms.items():
        zp, zq = masks[:, p[0], p[1]], masks[:, q[0], q[1]]
        total += beta * (zp - zq) ** 2
        at_p = zp * (first + both) / 2 + (1 - zp) * (second + none) / 2
        at_q = zq * (second + both) / 2 + (1 - zq) * (first + none) / 2
        total += beta * gamma * (at_p + at_q + (zp - zq) ** 2 * (first + second - both - none) / 2)
    return total


def all_masks(gh, gw, num_labels):
    """``(num_labels ** (gh * gw), gh, gw)`` masks in [0, 1]."""
    values = np.arange(num_labels) / (num_labels - 1)
    return np.array(list(itertools.product(values, repeat=gh * gw))).reshape(-1, gh, gw)


def best_moves(gain, share, xi=0.8, slack=1e-7):
    """The ``{place: cell}`` of permutations that show most for the least way, all that are as good as the best, and
    their cost; ``(gh, gw)`` both. Tries them all.
    """
    gh, gw = gain.shape
    cells = [(a, b) for a in range(gh) for b in range(gw)]
    scale = (max(gh, gw) - 1) ** 2
    costs = {}
    for order in itertools.permutations(cells):  # order[k] moves to cells[k]
        cost = 0.0
        for place, cell in zip(cells, order, strict=True):
            way = ((place[0] - cell[0]) ** 2 + (place[1] - cell[1]) ** 2) / scale
            cost += xi * way - share[place] * gain[cell]
        costs[order] = cost
    least = min(costs.values())
    return [dict(zip(cells, order, strict=True)) for order, cost in costs.items() if cost <= least + slack], least


def mix_cells(image_i, image_j, mask, move_i, move_j, cell):
    """``(C, H, W)``: of each place a share of both images, from the cells that move there."""
    mixed = np.zeros(image_i.shape)
    for place, (y, x) in move_i.items():
        v, u = move_j[place]
        z = mask[place]
        own = image_i[:, y * cell : (y + 1) * cell, x * cell : (x + 1) * cell]
        other = image_j[:, v * cell : (v + 1) * cell, u * cell : (u + 1) * cell]
        a, b = place
        mixed[:, a * cell : (a + 1) * cell, b * cell : (b + 1) * cell] = z * own + (1 - z) * other
    return mixed


def cut_energy(labels, slope, prior, down, right):
    """``(K,)`` energies of ``(K, gh, gw)`` labels of a cut: a slope and a prior of each, squares between neighbours."""
    top = len(prior) - 1
    gh, gw = slope.shape
    total = np.zeros(len(labels))
    for a in range(gh):
        for b in range(gw):
            total += slope[a, b] * labels[:, a, b] / top + np.asarray(prior)[labels[:, a, b]]
    for (a, b), (c, d) in neighbours(gh, gw):
        weight = down[a, b] if c > a else right[a, b]
        total += weight * ((labels[:, a, b] - labels[:, c, d]) / top) ** 2
    return total
