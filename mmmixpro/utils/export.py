# Copyright (c) MMMixPro contributors.
"""From a training checkpoint to files of weights alone, which any torch loads without running code."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
import mmengine
import mmpretrain
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmmixpro.version import __version__

from .checkpoint import load_strictly
from .convert_file import OURS_ALONE
from .weights import read_checkpoint
from .writing import target_path, write_weights

SUFFIXES = ['.pth', '.safetensors']
#: What is taken of a model.
PARTS = dict(backbone=('backbone',), classifier=('backbone', 'neck', 'head'))


def export(config: str, checkpoint: str, targets: Sequence[str], part: str = 'backbone') -> str:
    """Write the weights of a model, checked to be all that it has, with what is known of them.

    Names keep their ``backbone.``, so that ``init_cfg=dict(type='Pretrained', prefix='backbone.')`` loads either part.
    A ``.pth`` holds ``state_dict`` and ``meta``, a ``.safetensors`` the same ``meta`` as JSON; see :func:`describe`.

    Args:
        config: The config that the checkpoint was trained by.
        checkpoint: The checkpoint; with ``EMAHook``, the averaged weights are taken.
        targets: Files to write, ``.pth`` or ``.safetensors``, each whole or not at all.
        part: One of :data:`PARTS`. What only training needs, such as SMMix's token head, is in neither.

    Returns:
        str: What was exported.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If the checkpoint is not of the config, carries code or is none, or if a target cannot be written.
    """
    if part not in PARTS:
        raise ValueError(f'part must be one of {list(PARTS)}, got {part!r}.')
    paths = [target_path(target, checkpoint) for target in targets]
    for path in paths:
        if path.suffix not in SUFFIXES:
            raise ValueError(f'Expected targets that end in one of {SUFFIXES}, found {str(path)!r}.')
    if not Path(config).is_file():
        raise FileNotFoundError(
            f'Expected a config, such as configs/mixpro/deit-s_8xb128_in1k.py, found no {config!r}.'
        )
    cfg = Config.fromfile(config)
    model = _build(cfg, config, PARTS[part])
    advice = 'Give what training has saved, such as work_dirs/.../epoch_300.pth.'
    weights, run = read_checkpoint(checkpoint, advice=advice)
    others = [f'{name}.*' for name, value in cfg.model.items() if isinstance(value, dict) and name not in model]
    report = load_strictly(
        model,
        weights,
        f'{checkpoint} into the {part} of {config}',
        'Give the config that the checkpoint was trained by; its weights must be named as the model names them, from '
        "'backbone.' on. tools/model_converters/to_mmmixpro.py converts those of other libraries.",
        allow_unexpected=[*others, *OURS_ALONE],
    )
    known = describe(cfg, config, checkpoint, run)
    meta = dict(known, part=part, parameters=sum(p.numel() for p in model.parameters()))
    for path in paths:
        write_weights(model.state_dict(), path, meta)
    return report


def _build(cfg: Config, config: str, parts: Sequence[str]) -> nn.ModuleDict:
    model = cfg.get('model') or {}
    missing = [part for part in parts if part not in model and part != 'neck']
    if missing:
        raise ValueError(
            f'{config}: expected a model with {" and ".join(missing)}, found {sorted(model)}. Give the config of a '
            'classifier; of segmentors and detectors, the backbone alone can be exported.'
        )
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmpretrain')):
        return nn.ModuleDict({part: MODELS.build(model[part]) for part in parts if model.get(part)})


def describe(cfg: Config, config: str, checkpoint: str, run: Mapping) -> dict[str, Any]:
    """What is known of a checkpoint: plain types only, and nothing that is not known.

    Args:
        cfg: The config.
        config: Its file.
        checkpoint: The checkpoint.
        run: Its ``meta``. Of what a runner has saved, more is known than of converted weights.

    Returns:
        dict[str, Any]: ``config`` and ``exported_with``; of a run besides ``method``, ``data``, ``epoch`` and ``iter``,
        ``seed``, ``time``, ``trained_with`` (mmengine), ``commit_of_working_directory`` (whatever repository the run
        was started in, if any), ``dataset_meta`` (the names of the classes) and ``accuracy``, the metrics that the
        run's log, if it still stands beside the checkpoint, has for its epoch or iteration.
    """
    libraries = dict(mmmixpro=__version__, torch=str(torch.__version__), mmcv=mmcv.__version__)
    libraries |= dict(mmengine=mmengine.__version__, mmpretrain=mmpretrain.__version__)
    path = Path(config).resolve()
    known: dict[str, Any] = dict(config=f'{path.parent.name}/{path.stem}', exported_with=libraries)
    if 'mmengine_version' not in run:
        return known
    known['method'] = _method(cfg.model)
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    if dataset:
        known['data'] = _data(dataset)
    known |= {key: run[key] for key in ('epoch', 'iter', 'seed', 'time') if isinstance(run.get(key), (int, str))}
    # mmengine puts a hash behind its version: of whatever repository it was started in, or 'unknown' without git.
    version = str(run['mmengine_version']).removesuffix('unknown')
    commit = re.search(r'[0-9a-f]{40}$', version)
    if commit:
        known['commit_of_working_directory'] = commit[0]
    known['trained_with'] = f'mmengine {version[: commit.start() if commit else None]}'
    classes = (run.get('dataset_meta') or {}).get('classes')
    if classes is not None:
        known['dataset_meta'] = dict(classes=[str(name) for name in classes])
    logger = (cfg.get('default_hooks') or {}).get('logger') or {}
    accuracy = _accuracy(checkpoint, run, logger.get('log_metric_by_epoch', True))
    return known | (dict(accuracy=accuracy) if accuracy else {})


def _method(model: Mapping) -> str:
    """The classifier, its labels, and its augments with their shares."""
    mixing = model.get('train_cfg') or {}
    augments, probs = (
        [value] if isinstance(value, (Mapping, float)) else value or []
        for value in (mixing.get('augments'), mixing.get('probs'))
    )
    probs = probs or [1 / len(augments) for _ in augments]
    shares = [f'{_name(augment)} {prob:g}' for augment, prob in zip(augments, probs, strict=True)]
    return ', '.join([*(_name(part) for part in (model, model.get('labels')) if part), *shares])


def _name(part: Mapping) -> str:
    """Name of a class, by which a config in Python's own syntax gives the class itself."""
    return part['type'] if isinstance(part['type'], str) else part['type'].__name__


def _data(dataset: Mapping) -> str:
    """Classes of the datasets, and which parts of them; no paths of the machine that trained."""
    if 'dataset' in dataset:
        return _data(dataset['dataset'])
    if 'datasets' in dataset:
        return ', '.join(map(_data, dataset['datasets']))
    return ' '.join(filter(None, [_name(dataset), dataset.get('split')]))


def _accuracy(checkpoint: str, run: Mapping, by_epoch: bool) -> dict[str, float]:
    """Metrics of the checkpoint, from the log of the run that saved it."""
    # The name of a run ends in the time of its start, which also names the folder of its log.
    started = str(run.get('experiment_name', ''))[-len('20250101_000000') :]
    log = Path(checkpoint).expanduser().with_name(started) / 'vis_data/scalars.json' if started else None
    if log is None or not log.is_file():
        return {}
    step = run.get('epoch' if by_epoch else 'iter')
    if not step:  # in training by iterations, each validation is of epoch 0
        return {}
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
    # Lines of training have a learning rate.
    validated = [line for line in lines if 'lr' not in line and line.get('step') == step]
    skipped = ('step', 'time', 'data_time')
    return {key: value for line in validated for key, value in line.items() if key not in skipped}
