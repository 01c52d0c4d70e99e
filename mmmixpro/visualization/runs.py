# Copyright (c) MMMixPro contributors.
"""What runs say of how well their models generalise."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mmmixpro.attention import class_attention_of

from .curves import read_run
from .pairs import build_backbone
from .panels import Panel, Points

TOP1 = 'accuracy/top1'


def generalization_panels(runs: Mapping[str, Path]) -> list[Panel]:
    """Training loss and top-1 error of each run (Fig. 2c and 2d of MixPro).

    The loss of an epoch is the mean of what was logged in it.

    Args:
        runs: By name, as :func:`~mmmixpro.visualization.curves.read_run` takes them.

    Raises:
        FileNotFoundError: If a run has no log.
        ValueError: If one has no validation yet, or does not train by epoch.
    """
    loss: dict[str, Points] = {}
    error: dict[str, Points] = {}
    for name, path in runs.items():
        training, validation = read_run(path)
        if not all('epoch' in line for line in training):
            raise ValueError(f"Expected a run that trains by epoch, found one by iteration in '{path}'.")
        loss[name] = [
            (epoch, float(np.mean([line['loss'] for line in lines])))
            for epoch, lines in groupby(training, lambda line: line['epoch'])
        ]
        error[name] = [(line['step'], 100 - line[TOP1]) for line in validation if TOP1 in line]
        if not error[name]:
            raise ValueError(f"Expected validations with {TOP1} in '{path}', found none. Train at least one epoch.")
    marker = 'o' if max(map(len, error.values())) < 30 else ''
    return [Panel('training loss', 'epoch', loss), Panel('top-1 error (%)', 'epoch', error, marker)]


def final_error(path: Path) -> float:
    """Top-1 error in percent: of a run's last validation, or from the metrics that ``tools/test.py --out`` wrote.

    Raises:
        FileNotFoundError: If there is neither.
        ValueError: If it tells no top-1 accuracy.
    """
    if path.suffix == '.json' and path.name != 'scalars.json':
        if not path.is_file():
            raise FileNotFoundError(f"Expected a run, or the metrics of tools/test.py --out, found no '{path}'.")
        entries = [json.loads(path.read_text())]
    else:
        _, entries = read_run(path)
    values = [entry[TOP1] for entry in entries if TOP1 in entry]
    if not values:
        raise ValueError(f"Expected {TOP1} in '{path}', found {sorted({key for entry in entries for key in entry})}.")
    return 100 - values[-1]


def mask_scale(cfg: Config) -> float:
    """Side of MaskMix's cells as a multiple of that of a token."""
    return _mixer(cfg).get('mask_size', 64) / class_attention_of(build_backbone(cfg)).token_stride


def beta(cfg: Config) -> float:
    """Parameter of the Beta distribution that MaskMix draws from."""
    return _mixer(cfg).get('alpha', 1.0)


def _mixer(cfg: Config) -> dict:
    augments = (cfg.model.get('train_cfg') or {}).get('augments') or []
    mixers = [augment for augment in augments if augment['type'].endswith('MixProBatchAugment')]
    if not mixers:
        raise ValueError(f"'{cfg.filename}' mixes by {[augment['type'] for augment in augments]}, not by MaskMix.")
    return mixers[0]


def config_of(path: Path) -> Config:
    """The config of a run's last part.

    Raises:
        FileNotFoundError: If the folder has none.
    """
    folder = path.parent if path.name == 'scalars.json' else path
    found = [config for pattern in ('', 'vis_data/', '*/vis_data/') for config in folder.glob(f'{pattern}config.py')]
    if not found:
        raise FileNotFoundError(
            f"Expected the config of a run, '<timestamp>/vis_data/config.py', in '{path}', found none. Give the "
            'value with the run: VALUE=RUN.'
        )
    return Config.fromfile(sorted(found)[-1], import_custom_modules=False)


def ablation_panel(title: str, unit: str, values: Mapping[float, Sequence[float]], baseline: float | None) -> Panel:
    """Top-1 error over what is varied (Fig. 5 of MixPro).

    Args:
        title: What is drawn upwards.
        unit: What is varied.
        values: Errors of the runs of each value, of which the mean is drawn.
        baseline: Error of a run without it; None for none.
    """
    ticks = sorted(values)
    lines: dict[str, Points] = {'MixPro': [(value, float(np.mean(values[value]))) for value in ticks]}
    if baseline is not None:
        lines['baseline'] = [(ticks[0], baseline), (ticks[-1], baseline)]
    return Panel(title, unit, lines, marker='o', ticks=ticks)
