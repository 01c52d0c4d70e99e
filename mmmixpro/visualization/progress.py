# Copyright (c) MMMixPro contributors.
"""How mixing and labels went in training, from what ``MixProgressHook`` logged."""

from collections.abc import Mapping, Sequence
from itertools import cycle, groupby
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .curves import curve, dress, read_run
from .figure import COLOURS, STYLE

SHARE = 'mix/share_'


def read_progress(path: str | Path) -> list[dict]:
    """Read what a run logged of mixing; where it was resumed, of all its parts, one after another.

    Args:
        path: As :func:`~mmmixpro.visualization.curves.read_run` takes it.

    Returns:
        list[dict]: A line of the log each: the columns of ``MixProgressHook``, ``step`` and others; in order.

    Raises:
        FileNotFoundError: If there is no log.
        ValueError: If it says nothing of mixing.
    """
    lines = [line for line in read_run(path)[0] if 'mix/acc' in line]
    if not lines:
        raise ValueError(
            f"'{path}' tells nothing of mixing: expected columns such as mix/lam and mix/acc. They come from "
            "MixProgressHook in runs of a MixClassifier or PALClassifier (not of mmpretrain's ImageClassifier): set "
            "default_hooks=dict(mix_progress=dict(type='mmpretrain.MixProgressHook')), as default_runtime.py does, "
            'and train.'
        )
    return lines


def average_lines(lines: Sequence[dict], num: int) -> list[dict]:
    """Take ``num`` lines of the log as one, for logs of many; what is left at the end is one of its own."""
    return [_average(group := lines[start : start + num], group[-1]['step']) for start in range(0, len(lines), num)]


def average_epochs(lines: Sequence[dict]) -> list[dict]:
    """Take the lines of an epoch as one, whose ``step`` is the epoch.

    Raises:
        ValueError: If a line tells no epoch, as those of training by iteration.
    """
    if any('epoch' not in line for line in lines):
        raise ValueError('Expected lines with their epoch, found those of a run that trains by iteration: no epochs.')
    return [_average(list(group), epoch) for epoch, group in groupby(lines, lambda line: line['epoch'])]


def _average(group: Sequence[dict], step: int) -> dict[str, float]:
    """Each line counts the same; the spread of alpha is that of all their images, not the mean of theirs."""
    merged: dict[str, float] = dict(step=step)
    for key in sorted({key for line in group for key in line if key.startswith('mix/')}):
        # What had no batch has a share, of zero; other values tell of the lines that have them.
        values = [line.get(key, 0.0) for line in group if key in line or key.startswith(SHARE)]
        merged[key] = float(np.mean(values))
    if 'mix/alpha' in merged:
        alpha = np.array([[line['mix/alpha'], line['mix/alpha_std']] for line in group if 'mix/alpha' in line])
        merged['mix/alpha_std'] = float(np.sqrt(alpha[:, 0].var() + (alpha[:, 1] ** 2).mean()))
    return merged


@mpl.rc_context(STYLE)
def plot_progress(runs: Mapping[str, Sequence[dict]], unit: str = 'iteration', columns: int = 2) -> Figure:
    """Draw runs over their iterations or epochs: lambda, alpha, accuracy, and which augments mixed.

    Alpha is drawn with a band of one standard deviation to either side (Fig. 2a of MixPro); lambda by area
    as a dotted line, by attention as a full one. Plots that none of the runs has values for are left out.

    Args:
        runs: Of each run by its name, the lines that :func:`read_progress` gives, or averages of them.
        unit: What their ``step`` counts.
        columns: How many plots stand side by side.
    """
    keys = {key for lines in runs.values() for line in lines for key in line}
    draws = [('λ: share of the own image, mean', _plot_lambda)] if 'mix/lam' in keys else []
    draws += [('α: trust in attention, mean ± std', _plot_alpha)] if 'mix/alpha' in keys else []
    draws += [('accuracy against the mixed label (%)', _plot_accuracy)]
    rows = -(-(len(draws) + len(runs)) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.5 * rows), layout='constrained')
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for title, draw in draws:
        ax = axes.pop(0)
        for (name, lines), colour in zip(runs.items(), cycle(COLOURS), strict=False):
            draw(ax, lines, name if len(runs) > 1 else '', colour)
        _finish(ax, title, unit)
    for name, lines in runs.items():
        ax = axes.pop(0)
        _plot_shares(ax, lines)
        _finish(ax, 'share of the batches (%)' + (f', {name}' if len(runs) > 1 else ''), unit)
    for ax in axes:
        ax.remove()
    return figure


def _finish(ax: Axes, title: str, unit: str) -> None:
    dress(ax, title, unit)
    legend = ax.get_legend()
    if legend:
        legend.set_frame_on(True)  # shares leave no room beside it
        legend.get_frame().set(edgecolor='none')


def _plot_lambda(ax: Axes, lines: Sequence[dict], name: str, colour: str) -> None:
    for key, label, style in (('mix/lam', 'area', ':'), ('mix/lam_attn', 'attention', '-')):
        points = curve(lines, key)
        if points:
            ax.plot(*zip(*points, strict=True), color=colour, linestyle=style, label=f'{name} {label}'.strip())


def _plot_alpha(ax: Axes, lines: Sequence[dict], name: str, colour: str) -> None:
    points = np.array(
        [[line[key] for key in ('step', 'mix/alpha', 'mix/alpha_std')] for line in lines if 'mix/alpha' in line]
    )
    if len(points):
        steps, mean, std = points.T
        ax.plot(steps, mean, color=colour, label=name or None)
        ax.fill_between(steps, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)


def _plot_accuracy(ax: Axes, lines: Sequence[dict], name: str, colour: str) -> None:
    steps, accuracy = np.array(curve(lines, 'mix/acc')).T
    ax.plot(steps, 100 * accuracy, color=colour, label=name or None)


def _plot_shares(ax: Axes, lines: Sequence[dict]) -> None:
    names = sorted({key for line in lines for key in line if key.startswith(SHARE)})
    shares = [[100 * line.get(name, 0.0) for line in lines] for name in names]
    labels = [name.removeprefix(SHARE) for name in names]
    ax.stackplot([line['step'] for line in lines], shares, labels=labels, colors=COLOURS, alpha=0.75)
    ax.set(ylim=(0, 100), xmargin=0)
