# Copyright (c) MMMixPro contributors.
"""Plots of several runs or models below or beside one another, under one legend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from .curves import dress
from .figure import STYLE, looks

WIDTH, HEIGHT = 4.2, 2.5  # inches: legible at the width of a phone
LINE = 0.19  # height of a line of the legend
LONG = 22  # letters of a name that leave no room for a second one beside it

Points = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Panel:
    """One plot.

    Attributes:
        title: What is drawn upwards, with its unit.
        unit: What is drawn to the right, with its unit.
        lines: Pairs ``(x, y)`` by name. A name is drawn alike in all panels of a figure.
        marker: Drawn at each pair; ``''`` for none.
        ticks: Where to label the horizontal axis; None leaves it to matplotlib.
        limits: Ends of the vertical axis, for panels to be compared; None leaves them to matplotlib.
    """

    title: str
    unit: str
    lines: Mapping[str, Points]
    marker: str = ''
    ticks: Sequence[float] | None = None
    limits: tuple[float, float] | None = None


@mpl.rc_context(STYLE)
def plot_panels(panels: Sequence[Panel], columns: int = 1) -> Figure:
    """Draw panels, and below them a legend if there is more than one line to tell apart.

    Args:
        panels: From left to right, from top to bottom.
        columns: How many stand side by side; one is legible on a phone.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    styles = dict(zip(names, looks(), strict=False))
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    beside = columns * (1 if max(map(len, names), default=0) > LONG else 2)
    legend = LINE * -(-len(names) // beside) if len(names) > 1 else 0
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows + legend), layout='constrained')
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    handles = {}
    for ax, panel in zip(axes, panels, strict=False):
        for name, points in panel.lines.items():
            if points:
                (handles[name],) = ax.plot(
                    *zip(*points, strict=True), linewidth=1.6, marker=panel.marker, markersize=3, **styles[name]
                )
        dress(ax, panel.title, panel.unit)
        if panel.limits is not None:
            ax.set_ylim(panel.limits)
        if panel.ticks is not None:
            ax.xaxis.set_major_locator(FixedLocator(list(panel.ticks)))
    for ax in axes[len(panels) :]:
        ax.remove()
    if legend:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc='outside lower center',
            ncols=beside,
            frameon=False,
            fontsize=8,
            handlelength=2.6,
        )
    return figure
