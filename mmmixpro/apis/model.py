# Copyright (c) MMMixPro contributors.
from copy import deepcopy
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import mmpretrain
import torch
from mmengine.config import Config
from mmpretrain.apis import ModelHub
from mmpretrain.models import BaseClassifier

from mmmixpro.utils.methods import LEAF
from mmmixpro.utils.model_file import load_model
from mmmixpro.utils.model_index import MIM


def list_models(pattern: str = '*') -> list[str]:
    """Names of all configs, those of segmentation and detection too: folder and stem.

    Args:
        pattern: Wildcards for the beginning of the name.

    Example:
        >>> list_models('mixpro/deit-t')
        ['mixpro/deit-t_8xb128_in1k']
    """
    return [name for name in _configs() if fnmatchcase(name, f'{pattern}*')]


def find_config(name: str) -> Path:
    """The file of a config.

    Args:
        name: As :func:`list_models` has it; of those for ImageNet, ``_8xb128_in1k`` may be left out
            (``'mixpro/deit-s'``), and a model without a method (``'deit-s'``) is the one trained without mixing, which
            takes the weights of any method.

    Raises:
        ValueError: If there is no such config, with those of similar names.
    """
    configs = _configs()
    known = name if '/' in name else f'baseline/{name}'
    for full in (known, LEAF.format(model=known).removesuffix('.py')):
        if full in configs:
            return configs[full]
    near = list_models(f'*{name}')[:5] + get_close_matches(known, configs, n=5)
    raise ValueError(
        f'No config is named {name!r}. Similar: {list(dict.fromkeys(near)) or "none"}; mmmixpro.apis.list_models() has '
        'all. The file of a config of your own is given as a path that ends in .py.'
    )


def get_model(
    model: str | PathLike | Config,
    pretrained: str | bool = False,
    device: str | torch.device | None = None,
    **kwargs: Any,
) -> BaseClassifier:
    """A classifier of a config, in eval mode: mmpretrain's ``get_model``, but what is loaded must fit.

    Args:
        model: A name, see :func:`find_config`, the path of a config or a config.
        pretrained: A checkpoint of the whole classifier, of training or exported, which is loaded strictly; True for
            the weights that its folder's ``metafile.yml`` names; False for none.
        device: Where to move the model.
        **kwargs: Settings of the model, merged into the config's, such as ``backbone=dict(img_size=384)``; with
            ``head=None``, which ``'deit-s'`` allows, a file of the backbone alone is enough.

    Example:
        >>> model = get_model('deit-s', pretrained='work_dirs/mixpro/deit-s_8xb128_in1k/epoch_300.pth')
        >>> model.extract_feat(torch.rand(1, 3, 224, 224))[-1].shape
        torch.Size([1, 384])

    Raises:
        ValueError: If there is no such config, or if it is of no classifier; if no weights are published for it; if the
            checkpoint does not fit, carries code or is none.
        FileNotFoundError: If there is no checkpoint.
    """
    cfg = load_config(model)
    scope = cfg.get('default_scope') or 'mmpretrain'
    if scope != 'mmpretrain':
        raise ValueError(
            f'get_model is for classifiers, and {model} is a config of {scope}. Take mmmixpro.apis.segmentation.'
            'SegInferencer or mmmixpro.apis.detection.DetInferencer, whose attribute `model` is the model.'
        )
    checkpoint = _published(cfg) if pretrained is True else pretrained
    classifier = mmpretrain.get_model(cfg, pretrained=False, **deepcopy(kwargs))  # which mmengine alters
    if checkpoint:
        load_checkpoint(classifier, checkpoint)
    return classifier.to(device) if device is not None else classifier


def load_checkpoint(classifier: BaseClassifier, checkpoint: str) -> None:
    """Load a classifier strictly, and take the names of its classes from the checkpoint if it has them."""
    dataset = load_model(classifier, checkpoint).get('dataset_meta') or {}
    if 'classes' in dataset:
        classifier._dataset_meta = dataset


def load_config(model: str | PathLike | Config) -> Config:
    """A config of ours by its name, any by its path; of datasets in wrappers, it tests on the first itself.

    There the inferencers of mmpretrain, mmseg and mmdet look for the pipeline and the names of the classes.
    """
    cfg = deepcopy(model) if isinstance(model, Config) else _from_file(model)
    loader = cfg.get('test_dataloader') or {}
    while {'dataset', 'datasets'} & loader.get('dataset', {}).keys():
        wrapper = loader['dataset']
        loader['dataset'] = wrapper['dataset'] if 'dataset' in wrapper else wrapper['datasets'][0]
    return cfg


def _from_file(model: str | PathLike) -> Config:
    path = Path(model)
    if path.suffix != '.py':
        path = find_config(str(model))
    elif not path.is_file():
        raise ValueError(f'No config at {str(path)!r}. Give a path, or a name without .py: {list_models()[:3]}, ...')
    return Config.fromfile(path)


@cache
def _configs() -> dict[str, Path]:
    paths = sorted((MIM / 'configs').glob('[!_]*/*.py'))
    return {f'{path.parent.name}/{path.stem}': path for path in paths}


def _published(cfg: Config) -> str:
    path = Path(cfg.filename or '').resolve()
    for metainfo in ModelHub._models_dict.values():
        if metainfo.weights and Path(metainfo.config or '').resolve() == path:
            return metainfo.weights
    raise ValueError(
        f'No weights are published for {path.parent.name}/{path.stem}. Give the checkpoint of a run: '
        f'pretrained="work_dirs/{path.parent.name}/{path.stem}/epoch_300.pth".'
    )
