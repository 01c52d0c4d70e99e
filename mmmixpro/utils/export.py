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
from .model_file import read_meta
from .weights import load_weights
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
    weights = load_weights(checkpoint, advice='Give what training has saved, such as work_dirs/.../epoch_300.pth.')
    others = [f'{name}.*' for name, value in cfg.model.items() if isinstance(value, dict) and name not in model]
    report = load_strictly(
        model,
        weights,
        f'{checkpoint} into the {part} of {config}',
        'Give the config that the checkpoint was trained by; its weights must be named as the model names them, from '
        "'backbone.' on. tools/model_converters/to_mmmixpro.py converts those of other libraries.",
        allow_unexpected=[*others, *OURS_ALONE],
    )
    meta = dict(describe(cfg, config, checkpoint), part=part, parameters=sum(p.numel() for p in model.parameters()))
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


def describe(cfg: Config, config: str, checkpoint: str) -> dict[str, Any]:
    """What is known of a checkpoint: plain types only, and nothing that is not known.

    Args:
        cfg: The config.
        config: Its file.
        checkpoint: The checkpoint. Of one that a runner has saved, more is known than of converted weights.

    Returns:
        dict[str, Any]: ``config`` and ``exported_with``; of a run besides ``method``, ``data``, ``epoch`` and ``iter``,
        ``seed``, ``time``, ``trained_with`` (mmengine), ``commit`` (of the repository that the run was started in),
        ``dataset_meta`` (the names of the classes) and ``accuracy``, the metrics that the run's log, if it still
        stands beside the checkpoint, has for its epoch or iteration.
    """
    libraries = dict(mmmixpro=__version__, torch=str(torch.__version__), mmcv=mmcv.__version__)
    libraries |= dict(mmengine=mmengine.__version__, mmpretrain=mmpretrain.__version__)
    path = Path(config).resolve()
    known: dict[str, Any] = dict(config=f'{path.parent.name}/{path.stem}', exported_with=libraries)
    run = read_meta(checkpoint)
    if 'mmengine_version' not in run:
        return known
    known |= dict(method=_method(cfg.model), data=_data(cfg.train_dataloader.dataset))
    known |= {key: run[key] for key in ('epoch', 'iter', 'seed', 'time') if isinstance(run.get(key), (int, str))}
    # mmengine puts the hash behind its version.
    commit = re.search(r'[0-9a-f]{40}$', run['mmengine_version'])
    if commit:
        known['commit'] = commit[0]
    known['trained_with'] = f'mmengine {run["mmengine_version"][: commit.start() if commit else None]}'
    classes = (run.get('dataset_meta') or {}).get('classes')
    if classes is not None:
        known['dataset_meta'] = dict(classes=[str(name) for name in classes])
    accuracy = _accuracy(checkpoint, run, by_epoch=cfg.train_cfg.get('by_epoch', True))
    return known | (dict(accuracy=accuracy) if accuracy else {})


def _method(model: Mapping) -> str:
    """The classifier, its labels, and its augments with their shares."""
    mixing = model.get('train_cfg') or {}
    augments = [augment['type'] for augment in mixing.get('augments') or []]
    probs = mixing.get('probs') or [1 / len(augments)] * len(augments)
    shares = [f'{name} {prob:g}' for name, prob in zip(augments, probs, strict=True)]
    parts = [model['type'], *([model['labels']['type']] if model.get('labels') else []), *shares]
    return ', '.join(parts)


def _data(dataset: Mapping) -> str:
    """Class of the dataset, and which part of it; no paths of the machine that trained."""
    if 'dataset' in dataset:
        return _data(dataset['dataset'])
    return ' '.join(filter(None, [dataset['type'], dataset.get('split')]))


def _accuracy(checkpoint: str, run: Mapping, by_epoch: bool) -> dict[str, float]:
    """Metrics of the checkpoint, from the log of the run that saved it."""
    # The name of a run ends in the time of its start, which also names the folder of its log.
    started = str(run.get('experiment_name', ''))[-len('20250101_000000') :]
    log = Path(checkpoint).expanduser().with_name(started) / 'vis_data/scalars.json' if started else None
    if log is None or not log.is_file():
        return {}
    step = run['epoch'] if by_epoch else run['iter']
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
    # Lines of training have a learning rate.
    validated = [line for line in lines if 'lr' not in line and line.get('step') == step]
    skipped = ('step', 'time', 'data_time')
    return {key: value for line in validated for key, value in line.items() if key not in skipped}
