# Copyright (c) MMMixPro contributors.
"""What mmengine logged during training, and its curves."""

import json
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .figure import STYLE, to_svg

LOGS = ('scalars.json', 'vis_data/scalars.json', '*/vis_data/scalars.json')
NO_LOG = (
    "Expected a training log '<timestamp>/vis_data/scalars.json' in '{path}', found none. Give the work_dir of a run "
    'that uses LocalVisBackend and has begun to train, or the file scalars.json itself.'
)
LABELS = {
    'accuracy/top1': 'top-1 accuracy (%)',
    'mIoU': 'mIoU (%)',
    'coco/bbox_mAP': 'box AP',
    'coco/segm_mAP': 'mask AP',
}
INITS = {
    'MixPro': dict(label='from the MixPro checkpoint', color='#1f5fbf', linestyle='-'),
    'scratch': dict(label='from scratch', color='#c2571a', linestyle='--'),
}
OTHERS = [
    dict(color='#0f766e', linestyle='-'),
    dict(color='#7c3aed', linestyle='--'),
    dict(color='#475569', linestyle=':'),
]


def read_scalars(work_dir: str | Path) -> list[dict]:
    """Read what the newest run in a work folder logged.

    Args:
        work_dir: A runner's work folder, which holds ``<timestamp>/vis_data/scalars.json``.

    Returns:
        list[dict]: One entry for each logging, in order. Those of training have ``loss``, ``lr``,
        ``epoch``, ``iter`` and ``step``, the iteration; those of validation have the metrics and
        ``step``, which counts epochs or iterations as the training loop does.

    Raises:
        FileNotFoundError: If no run in the folder logged anything.
    """
    # Timestamps are written so that they sort by time.
    logs = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not logs:
        raise FileNotFoundError(NO_LOG.format(path=work_dir))
    return [json.loads(line) for line in logs[-1].read_text().splitlines()]


def read_run(path: str | Path) -> tuple[list[dict], list[dict]]:
    """Read what a run logged; where it was resumed, of all its parts, one after another.

    Args:
        path: Its work folder, a folder of one of its parts, or a file ``scalars.json``.

    Returns:
        tuple[list[dict], list[dict]]: Entries of training and of validation, see :func:`read_scalars`.

    Raises:
        FileNotFoundError: If there is no log.
    """
    path = Path(path)
    # Timestamps are written so that they sort by time.
    logs = [path] if path.is_file() else [log for pattern in LOGS for log in sorted(path.glob(pattern))]
    if not logs:
        raise FileNotFoundError(NO_LOG.format(path=path))
    training: list[dict] = []
    validation: list[dict] = []
    for log in logs:
        for text in log.read_text().splitlines():
            entry = json.loads(text)
            entries = training if 'loss' in entry else validation
            # A resumed part says anew what came after its checkpoint.
            while entries and entries[-1]['step'] >= entry['step']:
                entries.pop()
            entries.append(entry)
    return training, validation


def curve(scalars: Iterable[dict], key: str) -> list[list[float]]:
    """Pairs ``[step, value]`` of one key, such as ``'loss'`` or ``'accuracy/top1'``."""
    return [[entry['step'], entry[key]] for entry in scalars if key in entry]


@mpl.rc_context(STYLE)
def plot_curves(stages: list[dict]) -> str:
    """Draw the metric and the training loss of each group of stages.

    Args:
        stages: Dicts with ``title``, ``group``, ``metric``, ``init`` and the pairs ``[step,
            value]`` of ``curve`` and ``loss``. Stages of one group share its two plots.

    Returns:
        str: HTML with one ``<svg>`` for each plot, so that a page can set them side by side or one
        below another. Text is text and takes the page's font.
    """
    groups: dict[str, list[dict]] = {}
    for stage in stages:
        groups.setdefault(stage['group'], []).append(stage)
    plots = []
    for group, members in groups.items():
        metric = LABELS.get(members[0]['metric'], members[0]['metric'])
        for key, name in (('curve', metric), ('loss', 'training loss')):
            logged = [stage for stage in members if stage[key]]
            if logged:
                plots.append(_plot(logged, key, f'{group.capitalize()}: {name}'))
    return '\n'.join(plots)


def _plot(stages: list[dict], key: str, title: str) -> str:
    figure = Figure(figsize=(4.2, 2.5), layout='constrained')
    ax = figure.subplots()
    others = cycle(OTHERS)
    for stage in stages:
        look: dict[str, Any] = INITS.get(stage['init']) or dict(label=stage['title'], **next(others))
        marker = 'o' if key == 'curve' else ''
        steps, values = zip(*stage[key], strict=True)
        ax.plot(steps, values, linewidth=1.6, marker=marker, markersize=3, **look)
    dress(ax, title, _unit(stages, key))
    return to_svg(figure, title)


def _unit(stages: list[dict], key: str) -> str:
    """What the steps of a plot count."""
    # Validation counts as the training loop does, and the log does not say how. The loss is logged
    # by iteration, of which there are more than epochs.
    last, last_loss = (
        max((stage[name][-1][0] for stage in stages if stage[name]), default=0) for name in (key, 'loss')
    )
    return 'iteration' if last >= last_loss else 'epoch'


def dress(ax: Axes, title: str, unit: str) -> None:
    """The look of a plot over training."""
    ax.set_title(title, loc='left', fontsize=10, fontweight='bold')
    ax.set_xlabel(unit)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.tick_params(length=0, labelcolor='#52606d')
    ax.grid(color='#e4e7eb', linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[:].set_visible(False)
    ax.spines.bottom.set(visible=True, color='#9aa5b1')
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=8)
