# Copyright (c) MMMixPro contributors.
"""How mixing and labels went in training, from what ``MixProgressHook`` logged."""

import json
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .curves import curve, dress
from .figure import COLOURS, STYLE

LOGS = ('scalars.json', 'vis_data/scalars.json', '*/vis_data/scalars.json')
SHARE = 'mix/share_'


def read_progress(path: str | Path) -> list[dict]:
    """Read what a run logged of mixing; where it was resumed, of all its parts, one after another.

    Args:
        path: Its work folder, a folder of one of its parts, or a file ``scalars.json``.

    Returns:
        list[dict]: A line of the log each: the columns of ``MixProgressHook``, ``step`` and others; in order.

    Raises:
        FileNotFoundError: If there is no log.
        ValueError: If it says nothing of mixing.
    """
    path = Path(path)
    # Timestamps are written so that they sort by time.
    logs = [path] if path.is_file() else [log for pattern in LOGS for log in sorted(path.glob(pattern))]
    if not logs:
        raise FileNotFoundError(
            f"Expected a training log '<timestamp>/vis_data/scalars.json' in '{path}', found none. Give the work_dir "
            'of a run that uses LocalVisBackend and has begun to train, or the file scalars.json itself.'
        )
    lines: list[dict] = []
    for log in logs:
        for text in log.read_text().splitlines():
            entry = json.loads(text)
            if 'mix/acc' not in entry:
                continue
            # A resumed part says anew what came after its checkpoint.
            while lines and lines[-1]['step'] >= entry['step']:
                lines.pop()
            lines.append(entry)
    if not lines:
        raise ValueError(
            f"'{path}' tells nothing of mixing: expected columns such as mix/lam and mix/acc. They come from "
            "MixProgressHook in runs of a MixClassifier or PALClassifier (not of mmpretrain's ImageClassifier): set "
            "default_hooks=dict(mix_progress=dict(type='mmpretrain.MixProgressHook')), as default_runtime.py does, "
            'and train.'
        )
    return lines


def average_lines(lines: Sequence[dict], num: int) -> list[dict]:
    """Take ``num`` lines of the log as one, for logs of many; what is left at the end is one of its own.

    Each line counts the same; the spread of alpha is that of all their images, not the mean of theirs.
    """
    averaged = []
    for start in range(0, len(lines), num):
        group = lines[start : start + num]
        merged = dict(step=group[-1]['step'])
        for key in sorted({key for line in group for key in line if key.startswith('mix/')}):
            # What had no batch has a share, of zero; other values tell of the lines that have them.
            values = [line.get(key, 0.0) for line in group if key in line or key.startswith(SHARE)]
            merged[key] = float(np.mean(values))
        if 'mix/alpha' in merged:
            alpha = np.array([[line['mix/alpha'], line['mix/alpha_std']] for line in group if 'mix/alpha' in line])
            merged['mix/alpha_std'] = float(np.sqrt(alpha[:, 0].var() + (alpha[:, 1] ** 2).mean()))
        averaged.append(merged)
    return averaged


@mpl.rc_context(STYLE)
def plot_progress(runs: Mapping[str, Sequence[dict]]) -> Figure:
    """Draw runs over their iterations: lambda, alpha, accuracy, and which augments mixed.

    Alpha is drawn with a band of one standard deviation to either side (Fig. 2a and 2b of MixPro); lambda by area
    as a dotted line, by attention as a full one. Plots that none of the runs has values for are left out.

    Args:
        runs: Of each run by its name, the lines that :func:`read_progress` gives.
    """
    keys = {key for lines in runs.values() for line in lines for key in line}
    draws = [('λ: share of the own image, mean', _plot_lambda)] if 'mix/lam' in keys else []
    draws += [('α: trust in attention, mean ± std', _plot_alpha)] if 'mix/alpha' in keys else []
    draws += [('accuracy against the mixed label (%)', _plot_accuracy)]
    columns = 2
    rows = -(-(len(draws) + len(runs)) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.5 * rows), layout='constrained')
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for title, draw in draws:
        ax = axes.pop(0)
        for (name, lines), colour in zip(runs.items(), cycle(COLOURS), strict=False):
            draw(ax, lines, name if len(runs) > 1 else '', colour)
        _finish(ax, title)
    for name, lines in runs.items():
        ax = axes.pop(0)
        _plot_shares(ax, lines)
        _finish(ax, 'share of the batches (%)' + (f', {name}' if len(runs) > 1 else ''))
    for ax in axes:
        ax.remove()
    return figure


def _finish(ax: Axes, title: str) -> None:
    dress(ax, title, 'iteration')
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
