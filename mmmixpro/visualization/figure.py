# Copyright (c) MMMixPro contributors.
"""The look that all pictures share."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure

# Sizes are chosen for a picture four images wide to be legible on a phone.
STYLE: Any = {
    'font.size': 9,
    'text.color': '#1f2933',
    'text.parse_math': False,
    'axes.labelcolor': '#1f2933',
    'svg.fonttype': 'none',
}
SIDE, GAP = 1.3, 0.06  # width of an image in inches; space between two, as a share of it
DPI = 200


def image_grid(heights: Sequence[float], columns: int) -> tuple[Figure, np.ndarray]:
    """A figure of bare axes, all of one width.

    Args:
        heights: Height of each row as a share of that width.
        columns: Number of columns.

    Returns:
        tuple[Figure, np.ndarray]: The figure and its axes ``(rows, columns)``.
    """
    rows, total = len(heights), sum(heights)
    size = SIDE * (columns + GAP * (columns - 1)), SIDE * (total + GAP * (rows - 1))
    figure = Figure(figsize=size)
    # Titles and legends stand outside of the figure; saving it widens it to hold them.
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw=dict(left=0, right=1, bottom=0, top=1, wspace=GAP, hspace=GAP * rows / total),
        height_ratios=heights,
    )
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure, axes


def to_png(figure: Figure) -> bytes:
    """The figure with all that stands around it."""
    file = BytesIO()
    figure.savefig(file, format='png', dpi=DPI, bbox_inches='tight', pad_inches=0.02)
    return file.getvalue()
