# Copyright (c) MMMixPro contributors.
"""Predictions of dense models beside the truth: a row for each image, a column for each model."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from .figure import STYLE, image_grid, to_png

IGNORED = '#d3d7dc'


class Instances(NamedTuple):
    """What is in one image.

    Attributes:
        boxes: ``(K, 4)`` in pixels: left, top, right, bottom.
        masks: ``(K, H, W)`` bool.
        labels: ``(K,)`` class indices.
        scores: ``(K,)`` in [0, 1]; None for the truth.
    """

    boxes: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None


@mpl.rc_context(STYLE)
def draw_segmentation(
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    predictions: dict[str, Sequence[np.ndarray]],
    class_names: Sequence[str],
    palette: Sequence[Sequence[int]],
    ignore_index: int = 255,
) -> bytes:
    """Draw predicted masks beside the true ones, each over its image.

    Args:
        images: ``(H, W, 3)`` uint8 RGB.
        truths: For each image, ``(H, W)`` class indices.
        predictions: For each model by its name, ``(H, W)`` class indices of each image.
        class_names: Name of each class.
        palette: RGB of each class, in [0, 255].
        ignore_index: Index of pixels that do not count.

    Returns:
        bytes: A PNG.
    """
    colours = np.array(palette) / 255
    cmap = ListedColormap(colours).with_extremes(bad=IGNORED)
    columns = {'truth': truths, **predictions}
    figure, axes = _columns(images, list(columns))
    seen: set[int] = set()
    ignored = False
    for column, masks in zip(axes.T[1:], columns.values(), strict=True):
        for ax, image, mask in zip(column, images, masks, strict=True):
            # Grey below, so that a colour means a class only.
            ax.imshow(image.mean(2), cmap='gray', vmin=0, vmax=255)
            shown = np.ma.masked_equal(mask, ignore_index)
            limits = dict(vmin=-0.5, vmax=len(colours) - 0.5)
            ax.imshow(shown, cmap=cmap, alpha=0.7, interpolation='nearest', **limits)
            seen.update(shown.compressed().tolist())
            ignored |= bool(shown.mask.any())
    legend = {class_names[index]: colours[index] for index in sorted(seen)}
    _legend(figure, legend | {'ignored': IGNORED} if ignored else legend)
    return to_png(figure)


@mpl.rc_context(STYLE)
def draw_detection(
    images: Sequence[np.ndarray],
    truths: Sequence[Instances],
    predictions: dict[str, Sequence[Instances]],
    class_names: Sequence[str],
    score_thr: float = 0.3,
) -> bytes:
    """Draw predicted boxes and masks beside the true ones, with their scores.

    Args:
        images: ``(H, W, 3)`` uint8 RGB.
        truths: For each image, what is in it.
        predictions: For each model by its name, what it finds in each image.
        class_names: Name of each class.
        score_thr: Predictions below this score are left out.

    Returns:
        bytes: A PNG.
    """
    columns = {
        name: [_keep(instances, score_thr) for instances in found]
        for name, found in {'truth': truths, **predictions}.items()
    }
    kept = [instances.labels for found in columns.values() for instances in found]
    seen = np.unique(np.concatenate(kept)).astype(int)
    cmap = mpl.colormaps['tab10' if len(seen) <= 10 else 'tab20']
    colours = {label: cmap(i % cmap.N) for i, label in enumerate(seen.tolist())}
    figure, axes = _columns(images, list(columns))
    for column, found in zip(axes.T[1:], columns.values(), strict=True):
        for ax, image, instances in zip(column, images, found, strict=True):
            ax.imshow(image)
            _draw_instances(ax, instances, colours)
            if instances.scores is not None and not len(instances.scores):
                look: dict[str, Any] = dict(fontsize=7.5, ha='center', va='center', transform=ax.transAxes)
                text = f'none above {score_thr:g}'
                ax.text(0.5, 0.5, text, bbox=dict(color='white', alpha=0.85), **look)
    _legend(figure, {class_names[label]: colour for label, colour in colours.items()})
    return to_png(figure)


def _keep(instances: Instances, score_thr: float) -> Instances:
    """What reaches the threshold, the surest last, to be drawn on top."""
    boxes, masks, labels, scores = instances
    if scores is None:
        return instances
    order = np.argsort(scores)
    order = order[scores[order] >= score_thr]
    return Instances(boxes[order], masks[order], labels[order], scores[order])


def _draw_instances(ax: Axes, instances: Instances, colours: dict[int, Any]) -> None:
    boxes, masks, labels, scores = instances
    for k, label in enumerate(labels.tolist()):
        colour = colours[label]
        mask = np.ma.masked_equal(masks[k], False)
        ax.imshow(mask, cmap=ListedColormap([colour]), alpha=0.45, interpolation='nearest')
        left, top, right, bottom = boxes[k]
        corner, size = (left, top), (right - left, bottom - top)
        ax.add_patch(Rectangle(corner, *size, fill=False, color=colour, linewidth=1.3))
        if scores is not None:
            box = dict(facecolor='white', edgecolor=colour, linewidth=0.8, pad=0.8)
            ax.text(left, top, f'{scores[k]:.2f}', fontsize=6.5, va='top', clip_on=True, bbox=box)


def _columns(images: Sequence[np.ndarray], names: Sequence[str]) -> tuple[Figure, np.ndarray]:
    """Axes with the images in the first column and room for what ``names`` names."""
    heights = [image.shape[0] / image.shape[1] for image in images]
    figure, axes = image_grid(heights, 1 + len(names))
    for ax, name in zip(axes[0], ('image', *names), strict=True):
        ax.set_title(name, fontsize=9)
    for ax, image in zip(axes[:, 0], images, strict=True):
        ax.imshow(image)
    return figure, axes


def _legend(figure: Figure, colours: dict[str, Any]) -> None:
    figure.legend(
        handles=[Patch(facecolor=colour, label=name) for name, colour in colours.items()],
        loc='upper left',
        bbox_to_anchor=(0, -0.08 / figure.get_figheight()),
        borderaxespad=0,
        borderpad=0,
        ncols=5,
        frameon=False,
        handlelength=1,
        handletextpad=0.5,
        columnspacing=1.2,
    )
