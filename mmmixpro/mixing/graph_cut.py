# Copyright (c) MMMixPro contributors.
"""The two problems of PuzzleMix that are solved on the host, both to the optimum, in NumPy's float64."""

from typing import Any

import numpy as np
from numpy import ndarray

FORBIDDEN = 1e9  # far above any energy here, which are of the order of 1


def require_solvers() -> None:
    """Raise ImportError if PyMaxflow or SciPy is missing."""
    try:
        import maxflow  # noqa: F401
        import scipy.optimize  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'PuzzleMix cuts graphs with PyMaxflow and SciPy, found none of {error.name}: '
            'pip install "mmmixpro[puzzlemix]", or pip install PyMaxflow scipy'
        ) from None


def min_cut(slope: ndarray, prior: ndarray, down: ndarray, right: ndarray) -> ndarray:
    r"""The labels :math:`t \in \{0, ..., m\}` of least energy on ``N`` grids, all in one cut.

    .. math::
        E(t) = \sum_p s_p \frac{t_p}{m} + \rho_{t_p} + \sum_{p \sim q} w_{pq} \Big(\frac{t_p - t_q}{m}\Big)^2

    The global minimum, for any :math:`m`: label :math:`t` is :math:`m` nodes, :math:`x^a = [t \ge a]`, and of these
    :math:`(t_p - t_q)^2 = \sum_{a, b} |x_p^a - x_q^b| - t_p (m - t_p) - t_q (m - t_q)`, edges and terms of one cell
    (a case of Ishikawa's construction for convex priors, https://doi.org/10.1109/TPAMI.2003.1233908).

    Args:
        slope: ``(N, gh, gw)``, :math:`s`.
        prior: ``(m + 1,)``, :math:`\rho`, the energy of each label.
        down: ``(N, gh - 1, gw)``, :math:`w` of each cell and the one below; at least 0.
        right: ``(N, gh, gw - 1)``, :math:`w` of each cell and the one to the right; at least 0.

    Returns:
        ndarray: ``(N, gh, gw)`` int64.
    """
    import maxflow

    top = len(prior) - 1
    labels = np.arange(top + 1)
    around = np.zeros(slope.shape)
    around[:, :-1] += down
    around[:, 1:] += down
    around[:, :, :-1] += right
    around[:, :, 1:] += right
    alone = slope[..., None] * labels / top + prior - around[..., None] * labels * (top - labels) / top**2
    step = np.diff(alone, axis=-1)  # what the next label costs beyond the one before

    graph: Any = maxflow.GraphFloat(step.size, 2 * top * step.size)
    nodes = graph.add_grid_nodes(step.shape)
    # On the source's side x is 1.
    graph.add_grid_tedges(nodes, np.maximum(-step, 0), np.maximum(step, 0))
    above, below = nodes[..., 1:].ravel(), nodes[..., :-1].ravel()
    graph.add_edges(above, below, np.full(len(above), FORBIDDEN), np.zeros(len(above)))
    pairs = ((nodes[:, :-1], nodes[:, 1:], down), (nodes[:, :, :-1], nodes[:, :, 1:], right))
    for one, other, weight in pairs:
        tails, heads = np.broadcast_arrays(one[..., :, None], other[..., None, :])
        capacity = np.repeat(weight.ravel() / top**2, top**2)
        graph.add_edges(tails.ravel(), heads.ravel(), capacity, capacity)
    graph.maxflow()
    return (~graph.get_grid_segments(nodes)).sum(-1)


def transport(gain: ndarray, share: ndarray, cost: ndarray) -> ndarray:
    r"""Who moves where: the permutation of cells of least :math:`\sum_{ij} \Pi_{ij} (c_{ij} - z_j g_i)`.

    Args:
        gain: ``(N, n)``, :math:`g`, what it is worth to show each cell.
        share: ``(N, n)``, :math:`z`, how much of what moves there is shown at each place.
        cost: ``(n, n)``, :math:`c`, of moving a cell to a place.

    Returns:
        ndarray: ``(N, n)`` int64, the cell that moves to each place.
    """
    from scipy.optimize import linear_sum_assignment

    moved = np.empty(gain.shape, dtype=np.int64)
    for row, worth, shown in zip(moved, gain, share, strict=True):
        cells, places = linear_sum_assignment(cost - worth[:, None] * shown)
        row[places] = cells
    return moved
