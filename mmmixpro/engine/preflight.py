# Copyright (c) MMMixPro contributors.
"""User mistakes that would show late or never: each check raises one error that names the mend."""

import importlib
import inspect
import os
import os.path as osp
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine import fileio
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset
from torch import nn

from mmmixpro.datasets import LoadContentMap


def check_method(cfg: Config) -> None:
    """Refuse a ``method`` that was changed after ``model`` had been made from it.

    A leaf config says ``model = _base_.method``. What alters ``method`` later, on the command line
    or in a child config, changes nothing.

    Args:
        cfg: A config as loaded, with the command line's options merged.

    Raises:
        ValueError: If ``method`` was changed.
    """
    if cfg.filename is None or 'method' not in cfg:
        return
    if _method(Config.fromfile(cfg.filename, import_custom_modules=False)) != _method(cfg):
        raise ValueError(
            'Options on `method` come too late: the model has been made from it already. Set the '
            'same on `model`: --cfg-options model.x=... in place of method.x=...'
        )
    _check_method_of(cfg.filename)


def _check_method_of(filename: str) -> None:
    """Compare the ``method`` of a config file with that of its bases, and so do for each base."""
    bases: dict[str, Any] = {}
    for base in Config._get_base_files(filename):
        path, _ = Config._get_cfg_path(base, filename)
        _check_method_of(path)
        bases.update(Config.fromfile(path, import_custom_modules=False))
    if {'model', 'method'} <= bases.keys():
        own = Config.fromfile(filename, import_custom_modules=False)
        if _method(own) != _method(bases):
            raise ValueError(
                f'{filename} redefines `method`, which changes nothing: its base has made the '
                'model from it already. Write the same into `model = dict(...)`.'
            )


def _method(cfg: Any) -> Any:
    return _without_scope(cfg.get('method'))


def _without_scope(value: Any) -> Any:
    """Drop the ``_scope_`` that mmengine adds to what stands in another package's config."""
    if isinstance(value, dict):
        return {k: _without_scope(v) for k, v in value.items() if k != '_scope_'}
    if isinstance(value, (list, tuple)):
        return [_without_scope(v) for v in value]
    return value


def check_compiled_ops(cfg: Config) -> None:
    """Refuse detection without mmcv's compiled ops.

    Raises:
        ImportError: If the config is mmdet's and ``mmcv._ext`` cannot be imported.
    """
    if cfg.get('default_scope') != 'mmdet':
        return
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        raise ImportError(
            f"Detection needs mmcv's compiled ops, found none ({error}). Build them, once per "
            'machine (4 to 12 min on 2 cores): make ops, or python -m mmmixpro.utils.build_ops'
        ) from None


def check_data_paths(cfg: Config, dataloaders: tuple[str, ...]) -> None:
    """Refuse data folders and annotation files that are not there.

    Args:
        cfg: The config.
        dataloaders: Names of the data loaders about to be used, such as ``train_dataloader``.

    Raises:
        FileNotFoundError: If a path is missing.
    """
    for name in dataloaders:
        for dataset, path, source in missing_paths(cfg, name):
            raise FileNotFoundError(_missing(cfg, name, dataset, path) + source)


def missing_paths(cfg: Config, dataloader: str) -> Iterator[tuple[dict, str, str]]:
    """Each folder or file that a data loader needs and that is not there: dataset, path, and how to get it.

    The last is a sentence that goes on behind another, of our own datasets; of others it is empty.
    """
    loader, scope = cfg.get(dataloader) or {}, cfg.get('default_scope', 'mmengine')
    for dataset in _leaf_datasets(loader.get('dataset')):
        source = getattr(_class(dataset, scope), 'SOURCE', '')
        for path in _paths(dataset, scope):
            if not fileio.exists(path):
                yield dataset, path, f'. {source}' if source else ''


def _leaf_datasets(dataset: Any) -> Iterator[dict]:
    """Look through wrappers such as ``RepeatDataset`` and ``ConcatDataset``."""
    if not isinstance(dataset, dict):
        return
    inner = [dataset['dataset']] if 'dataset' in dataset else dataset.get('datasets')
    if inner is None:
        yield dataset
        return
    for child in inner:
        yield from _leaf_datasets(child)


def _class(dataset: dict, scope: str) -> Any:
    with DATASETS.switch_scope_and_registry(scope) as registry:
        return registry.get(dataset['type'])


def _paths(dataset: dict, scope: str) -> list[str]:
    """What must exist before the dataset is built, joined as mmengine's ``BaseDataset`` does."""
    cls = _class(dataset, scope)
    if not (isinstance(cls, type) and issubclass(cls, BaseDataset)):
        return []
    # Datasets that download themselves (CIFAR) and remote storage answer for their own paths.
    if 'download' in inspect.signature(cls).parameters or dataset.get('backend_args'):
        return []
    prefix = dataset.get('data_prefix') or {}
    if issubclass(cls, CustomDataset):
        prefix = prefix or dataset.get('split') or {}
    prefixes = [prefix] if isinstance(prefix, str) else list(prefix.values())
    root = osp.expanduser(dataset.get('data_root') or '')
    names = ['', *prefixes, dataset.get('ann_file') or '']
    return [osp.join(root, osp.expanduser(name)) for name in names if root or name]


def _missing(cfg: Config, loader: str, dataset: dict, path: str) -> str:
    # The environment variables whose values the path is made of.
    variables = re.findall(r'\{\{\s*\$(\w+)\s*:\s*(\S*?)\s*\}\}', cfg.text or '')
    values = {name: os.environ.get(name, default) for name, default in variables}
    parents = [Path(path), *Path(path).parents]
    mends = [f'export {name}=/path/to/data' for name, value in values.items() if Path(value) in parents]
    mends.append(f'--cfg-options {loader}.dataset.data_root=/path/to/data')
    scheme, separator, folder = path.rpartition('://')  # zip://data/imagenet, or none
    folder = parent = osp.abspath(folder)
    while not osp.exists(parent):
        parent = osp.dirname(parent)
    return (
        f"{loader}: {dataset['type']} expects '{scheme}{separator}{folder}', found only '{parent}'. "
        'Say where the data is: ' + ' or '.join(mends)
    )


def check_dataset(dataset: Any, model: nn.Module) -> None:
    """Refuse an empty dataset, and one with more classes than a head of the model.

    Args:
        dataset: A dataset of mmpretrain, mmseg or mmdet, or a wrapper around one.
        model: The model, possibly wrapped.

    Raises:
        ValueError: If the dataset is empty, or has more classes than a head.
    """
    name = type(dataset).__name__
    if len(dataset) == 0:
        where = getattr(dataset, 'ann_file', '') or getattr(dataset, 'data_prefix', '')
        raise ValueError(
            f"{name} found no image ({where}). Check the files' suffixes against img_suffix, "
            'seg_map_suffix or extensions, and the class names against the annotations.'
        )
    classes = num_classes(dataset)
    for path, module in model.named_modules():
        # The region proposal network tells objects from background, whatever the classes are.
        if 'head' not in path or 'rpn_head' in path:
            continue
        limit = getattr(module, 'num_classes', None)
        if isinstance(limit, int) and classes > limit > 0:
            raise ValueError(
                f'{name} has {classes} classes, but model.{path} ({type(module).__name__}) has '
                f'room for {limit}. Set its num_classes to {classes}, or check the data folder: '
                'one sub-folder per class, nothing else.'
            )


def check_content_maps(dataset: Any, num: int = 1000) -> None:
    """Refuse activation maps that were made of other images, judged by some of the dataset, evenly spread.

    Args:
        dataset: A dataset of mmpretrain, or a wrapper around one, of which nothing is asked.
        num: How many images to look up.

    Raises:
        ValueError: If one has no map.
    """
    for step in getattr(getattr(dataset, 'pipeline', None), 'transforms', []):
        if isinstance(step, LoadContentMap):
            for index in range(0, len(dataset), max(len(dataset) // num, 1)):
                step.maps[dataset.get_data_info(index)['img_path']]


def num_classes(dataset: Any) -> int:
    """How many classes a dataset names, or has labels of at least; 0 if it does not say."""
    names = getattr(dataset, 'metainfo', {}).get('classes')
    if names is not None:
        return len(names)
    # Annotation files without class names: the labels tell.
    labels = getattr(dataset, 'get_gt_labels', None)
    return 0 if labels is None else int(labels().max()) + 1


def warn_batch_size(runner: Runner) -> None:
    """Warn where the batch differs from the one that the learning rate is made for."""
    scale = runner.auto_scale_lr or {}
    base = scale.get('base_batch_size')
    if base is None or scale.get('enable', False):
        return
    loader = runner.train_dataloader
    per_rank = loader.batch_size or loader.batch_sampler.batch_size
    steps = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    total = per_rank * runner.world_size * steps
    if total != base:
        runner.logger.warning(
            f'The learning rate is made for batches of {base}, this run has {total} ({per_rank} '
            f'per rank x {runner.world_size} ranks x {steps} accumulated). Pass --auto-scale-lr to '
            f'scale it by {total / base:.4g}, or change the batch size.'
        )
