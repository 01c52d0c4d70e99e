# Copyright (c) MMMixPro contributors.
"""Pairs of images under every method, side by side (Fig. 4 and 6 of MixPro)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from .figure import STYLE, image_grid, to_png
from .mixed import borders, shorten, show_attention
from .pairs import MixedImage

LINE = 0.125  # height of a line of text as a share of an image's width
MASK = LinearSegmentedColormap.from_list('mask', ['#f2c14e', '#1f5fbf'])  # partner, image


@dataclass(frozen=True)
class Pair:
    """Two images and what became of them.

    Attributes:
        images: ``(2, H, W, 3)`` uint8 RGB, the image and its partner.
        names: Of their classes.
        mixed: By the name of each method.
    """

    images: np.ndarray
    names: tuple[str, str]
    mixed: Mapping[str, MixedImage]


@mpl.rc_context(STYLE)
def draw_sheet(pairs: Sequence[Pair], masks: bool = False) -> bytes:
    """Draw pairs below one another: the image, its partner, and a column for each method.

    Each method's column holds the mixed image with the borders of the mask and, below it, the mask (blue keeps the
    image, yellow shows the partner), if asked for, the class attention, if the model is trained, and how much the
    image counts.

    Args:
        pairs: All under the same methods.
        masks: Whether to draw the masks too.

    Returns:
        bytes: A PNG.
    """
    methods = list(pairs[0].mixed)
    first = [pair.mixed[name] for pair in pairs for name in methods]
    attention = any(one.attention is not None for one in first)
    height, width = pairs[0].images.shape[1:3]
    panels = 1 + masks + attention
    text = LINE * (0.7 + max(len(one.values) for one in first))
    figure, axes = image_grid([*[height / width] * panels, text] * len(pairs), 2 + len(methods))
    for ax, title in zip(axes[0], ['image', 'partner', *methods], strict=True):
        ax.set_title(shorten(title), fontsize=9, fontweight='bold')
    for pair, rows in zip(pairs, axes.reshape(len(pairs), panels + 1, -1), strict=True):
        for ax in rows[:, :2].flat:
            ax.axis('off')
        for image, name, column in zip(pair.images, pair.names, rows[:, :2].T, strict=True):
            column[0].imshow(image, interpolation='nearest')
            _write(column[1], shorten(name))
        for method, column in zip(methods, rows[:, 2:].T, strict=True):
            _draw(list(column), pair.mixed[method], masks)
    return to_png(figure)


def _draw(column: list[Axes], mixed: MixedImage, masks: bool) -> None:
    size = mixed.image.shape[:2]
    for ax in column[:-1]:
        ax.imshow(mixed.image, interpolation='nearest')
    column[0].add_collection(borders(mixed.mask, mixed.cell, size))
    if masks:
        pixels = mixed.mask.repeat(mixed.cell, 0).repeat(mixed.cell, 1)[: size[0], : size[1]]
        column[1].imshow(pixels, vmin=0, vmax=1, cmap=MASK, interpolation='nearest')
    if mixed.attention is not None:
        show_attention(column[-2], mixed.attention, size)
    _write(column[-1], '\n'.join(f'{name} {value:.2f}' for name, value in mixed.values.items()))
    column[-1].axis('off')


def _write(ax: Axes, text: str) -> None:
    ax.text(0.5, 1, text, ha='center', va='top', linespacing=1.3, transform=ax.transAxes)
