# Copyright (c) MMMixPro contributors.
"""The look that all pictures share."""

import html
import re
from collections.abc import Iterator, Sequence
from io import BytesIO, StringIO
from itertools import cycle, product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

# Sizes are chosen for a picture four images wide to be legible on a phone.
STYLE: Any = {
    'font.size': 9,
    'text.color': '#1f2933',
    'text.parse_math': False,
    'axes.labelcolor': '#1f2933',
    'svg.fonttype': 'none',
    'pdf.fonttype': 42,
}
SIDE, GAP = 1.3, 0.06  # width of an image in inches; space between two, as a share of it
DPI = 200
COLOURS = ('#1f5fbf', '#c2571a', '#0f766e', '#7c3aed', '#b4245d', '#475569')
STYLES = ('-', '--', ':', '-.')
SUFFIXES = ('.svg', '.png', '.pdf')


def looks() -> Iterator[dict[str, str]]:
    """A colour and a line style for each run, all different for two dozens of them."""
    return cycle([dict(color=colour, linestyle=style) for style, colour in product(STYLES, COLOURS)])


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


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure with all that stands around it, by the ending of the name; text stays text in an SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.partial')
    # One without a layout of its own has titles and legends outside of it.
    box = None if figure.get_layout_engine() else 'tight'
    with mpl.rc_context(STYLE):
        figure.savefig(partial, format=path.suffix[1:], dpi=DPI, bbox_inches=box, pad_inches=0.02)
    partial.replace(path)


def to_svg(figure: Figure, title: str) -> str:
    """The figure as ``<svg>`` within a page, whose font its text takes.

    Args:
        figure: The figure.
        title: What it shows, for those who cannot see it; another one in each plot of a page.
    """
    file = StringIO()
    # Names in an SVG are the page's; the salt keeps those of different plots apart.
    with mpl.rc_context(STYLE | {'svg.hashsalt': title}):
        figure.savefig(file, format='svg', metadata=dict.fromkeys(('Creator', 'Date', 'Format', 'Type')))
    svg = file.getvalue()
    svg = re.sub(r'<g id="[^"]*"', '<g', svg[svg.index('<svg') :])
    return svg.replace('<svg', f'<svg role="img" aria-label="{html.escape(title)}"', 1)


def to_png(figure: Figure) -> bytes:
    """The figure with all that stands around it."""
    file = BytesIO()
    figure.savefig(file, format='png', dpi=DPI, bbox_inches='tight', pad_inches=0.02)
    return file.getvalue()
