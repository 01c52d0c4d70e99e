# Copyright (c) MMMixPro contributors.
"""Tables and curves of what ``tools/analysis/robustness.py`` has measured, and their page.

A record is what the tool writes as JSON: ``command``, ``date``, ``device``, ``suites`` (their names), and ``models``,
 each with ``name``, ``config``, ``checkpoint``, ``sha256`` and, by the name of each suite, ``status``:
``'done'``, with ``metrics`` in percent, ``images``, ``seconds``, ``settings``, ``versions``, ``note`` and ``warnings``;
``'skipped'`` or ``'failed'``, with the ``reason``; or ``'pending'``.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from .figure import to_svg
from .panels import Panel, plot_panels
from .report import write_page

# Of the paper's Table 5: title, suite, metric; DeiT-S, TransMix-DeiT-S, MixPro-DeiT-S.
TABLE_5 = [
    ('top-1 ↑', 'imagenet-a', 'imagenet-a/top1', (19.1, 21.1, 22.4)),
    ('calibration error ↓', 'imagenet-a', 'imagenet-a/rms_hendrycks', (32.0, 31.2, 30.3)),
    ('AURRA ↑', 'imagenet-a', 'imagenet-a/aurra', (23.8, 28.8, 32.4)),
    ('AUPR ↑, ImageNet-O', 'imagenet-o', 'imagenet-o/aupr', (20.9, 21.9, 23.1)),
]
PAPER = ('DeiT-S', 'TransMix-DeiT-S', 'MixPro-DeiT-S')
KINDS = ('random', 'salient', 'non-salient')
MEAN = 'corruption/error'
# By suite: how it is headed. Those of one's own are headed by their names.
TITLES = {
    'calibration': 'Calibration',
    'corruption': 'Corruptions made on the fly: top-1 error',
    'imagenet-c': 'ImageNet-C: top-1 error',
    'cifar100-c': 'CIFAR-100-C: top-1 error',
    'adversarial': 'Adversarial images',
    'imagenet-a': 'ImageNet-A',
    'imagenet-o': 'ImageNet-O',
    'imagenet-r': 'ImageNet-R',
    'imagenet-sketch': 'ImageNet-Sketch',
    'imagenet-v2': 'ImageNet-V2',
}
# Others are called as their last part.
LABELS = {
    'calibration/ece': 'expected calibration error ↓',
    'calibration/ece_mass': 'the same, bins of equal counts ↓',
    'calibration/rms': 'RMS calibration error ↓',
    'calibration/rms_hendrycks': 'the same, without the last bin ↓',
    'imagenet-a/top1': 'top-1 among its 200 classes ↑',
    'imagenet-a/top1_all': 'top-1 among all classes ↑',
    'imagenet-a/rms': 'RMS calibration error ↓',
    'imagenet-a/rms_hendrycks': 'the same, without the last bin ↓',
    'imagenet-a/aurra': 'AURRA ↑',
    'imagenet-o/aupr': 'AUPR ↑',
    'imagenet-r/top1': 'top-1 among its 200 classes ↑',
    'imagenet-r/top1_all': 'top-1 among all classes ↑',
    'imagenet-sketch/top1': 'top-1 ↑',
    'imagenet-v2/top1': 'top-1 ↑',
    'corruption/mce': 'mCE, relative to AlexNet ↓',
    'corruption/relative_mce': 'relative mCE, of what corruption adds to the error ↓',
    'adversarial/clean': 'top-1, images as they are ↑',
    'adversarial/fgsm': 'top-1 under FGSM ↑',
    'adversarial/pgd': 'top-1 under PGD ↑',
}


Row = tuple[str, list[float | None]]


@dataclass(frozen=True)
class Table:
    """Figures in rows and columns; None where nothing was measured.

    Attributes:
        title: Its heading.
        corner: What the rows are.
        columns: Their headings.
        rows: Heading and figures of each.
        paper: Rows that are not measured here, but the paper's.
        notes: What the figures hang on, see :func:`notes_of`.
    """

    title: str
    corner: str
    columns: list[str]
    rows: list[Row]
    paper: Sequence[Row] = ()
    notes: Sequence[str] = ()

    @property
    def stacked(self) -> bool:
        """Whether a row becomes a list where there is no room for so many columns."""
        return len(self.columns) > 3 or max(map(len, self.columns)) > 12


def metrics_of(model: Mapping, suite: str) -> dict[str, float | None]:
    """What a suite has measured of a model, nothing if it has not been run."""
    return model['suites'].get(suite, {}).get('metrics') or {}


def table_5(record: Mapping) -> Table | None:
    """The paper's Table 5: a row for each model; None if nothing of it was measured."""
    rows = [(m['name'], [metrics_of(m, suite).get(key) for _, suite, key, _ in TABLE_5]) for m in record['models']]
    if not any(value is not None for _, values in rows for value in values):
        return None
    paper: list[Row] = [(name, [values[i] for *_, values in TABLE_5]) for i, name in enumerate(PAPER)]
    return Table('Natural adversarial examples', 'model', [title for title, *_ in TABLE_5], rows, paper)


def suite_table(record: Mapping, suite: str) -> Table | None:
    """All metrics of a suite but those of curves: a row for each, a column for each model; None if there are none.

    Means over other corruptions are other rows: they do not compare.
    """
    measured = [_rows(metrics_of(model, suite)) for model in record['models']]
    keys = list(dict.fromkeys(key for rows in measured for key in rows))
    if not keys:
        return None
    rows = [(label, [values.get((label, what)) for values in measured]) for label, what in keys]
    return Table(
        TITLES.get(suite, suite),
        '%',
        [model['name'] for model in record['models']],
        rows,
        notes=notes_of(record, suite),
    )


def _rows(metrics: Mapping[str, float | None]) -> dict[tuple[str, object], float | None]:
    """Values by label and by what they are of: the metric, with the corruptions that a mean is over."""
    rows: dict[tuple[str, object], float | None] = {}
    for key, value in metrics.items():
        if _drop(key) is not None:
            continue
        if key == MEAN:
            over = [name for name in metrics if name.startswith('corruption/') and name not in (MEAN, *LABELS)]
            rows[f'mean of {len(over)} corruption{"s" if len(over) > 1 else ""} ↓', tuple(over)] = value
        else:
            rows[LABELS.get(key, key.rpartition('/')[2].replace('_', ' ')), key] = value
    return rows


def notes_of(record: Mapping, suite: str) -> list[str]:
    """What the figures of a suite hang on and what was warned of, of which models if not of all that were measured."""
    said: dict[str, list[str]] = {}
    measured = [model for model in record['models'] if metrics_of(model, suite)]
    for model in measured:
        result = model['suites'][suite]
        for text in dict.fromkeys((result['note'], *result['warnings'])):
            if text:
                said.setdefault(text.rstrip('.'), []).append(model['name'])
    return [
        f'{text}.' if len(names) == len(measured) else f'{", ".join(names)}: {text}.' for text, names in said.items()
    ]


def _drop(key: str) -> tuple[str, float] | None:
    """Kind of the occlusion that a metric is of, and percent of the patches; None for others."""
    found = re.fullmatch(rf'occlusion/({"|".join(KINDS)})/([\d.]+)', key)
    return None if found is None else (found[1], float(found[2]))


def _of_occlusion(record: Mapping) -> list[str]:
    """The suites that have measured occlusion, by whatever name."""
    return [suite for suite in record['suites'] if any(map(_drop, _keys(record, suite)))]


def _keys(record: Mapping, suite: str) -> set[str]:
    return {key for model in record['models'] for key in metrics_of(model, suite)}


def occlusion_curves(record: Mapping) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Pairs of percent of patches dropped and top-1, by kind of occlusion and by model."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {kind: {} for kind in KINDS}
    suites = _of_occlusion(record)
    for model, suite in product(record['models'], suites):
        name = model['name'] if len(suites) == 1 else f'{model["name"]}, {suite}'
        for key, value in metrics_of(model, suite).items():
            drop = _drop(key)
            if drop is not None and value is not None:
                curves[drop[0]].setdefault(name, []).append((drop[1], value))
    return {kind: {name: sorted(points) for name, points in lines.items()} for kind, lines in curves.items() if lines}


def occlusion_panels(record: Mapping) -> list[Panel]:
    """The paper's Fig. 3: a panel for each kind of occlusion, a line for each model, all on one scale."""
    curves = occlusion_curves(record)
    values = [value for lines in curves.values() for points in lines.values() for _, value in points]
    margin = max(0.05 * (max(values) - min(values)), 0.5) if values else 0.0
    return [
        Panel(
            f'{kind.capitalize()} patches dropped: top-1 (%)',
            'patches dropped (%)',
            lines,
            marker='o',
            limits=(min(values) - margin, max(values) + margin),
        )
        for kind, lines in curves.items()
    ]


def occlusion_tables(record: Mapping) -> Iterator[Table]:
    """The figures behind the curves."""
    for kind, lines in occlusion_curves(record).items():
        percents = sorted({percent for points in lines.values() for percent, _ in points})
        values = [dict(points) for points in lines.values()]
        rows: list[Row] = [(f'{percent:g} %', [points.get(percent) for points in values]) for percent in percents]
        yield Table(f'{kind.capitalize()} patches dropped', 'dropped', list(lines), rows)


def tables(record: Mapping) -> list[Table]:
    """All tables but those of the occlusion, in the order of the suites."""
    others = [suite_table(record, suite) for suite in record['suites']]
    return [table for table in (table_5(record), *others) if table is not None]


def unmeasured(record: Mapping) -> list[tuple[str, str, str, str]]:
    """Model, suite, status and reason of what there is no figure of."""
    return [
        (model['name'], name, result['status'], result.get('reason', ''))
        for model in record['models']
        for name, result in model['suites'].items()
        if result['status'] != 'done'
    ]


def write_robustness(path: str | Path, record: Mapping) -> None:
    """Write a record as one HTML file that needs no other and no network.

    Raises:
        jinja2.UndefinedError: If something is missing in the record.
    """
    panels: Sequence[Panel] = occlusion_panels(record)
    write_page(
        path,
        'robustness.html.j2',
        record=record,
        tables=tables(record),
        curves='\n'.join(to_svg(plot_panels([panel]), panel.title) for panel in panels),
        occlusion=list(occlusion_tables(record)),
        notes=[note for suite in _of_occlusion(record) for note in notes_of(record, suite)],
        unmeasured=unmeasured(record),
        settings_shown=settings_shown,
        zip=zip,
    )


def settings_shown(settings: Mapping) -> str:
    """What a suite sets, and the pipeline; the model is known by its config."""
    shown = {key: settings[key] for key in ('dataset', 'test_evaluator', 'test_cfg', 'seed')}
    return json.dumps(shown, indent=1, ensure_ascii=False)
