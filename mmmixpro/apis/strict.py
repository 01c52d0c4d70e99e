# Copyright (c) MMMixPro contributors.
from os import PathLike
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from torch import nn

from mmmixpro.utils.model_file import load_model

from .model import load_config


class StrictInferencer:
    """Put before an inferencer of mmengine: configs by their names, and weights that must fit and run no code.

    Args:
        model: The name of a config, see :func:`~mmmixpro.apis.find_config`, the path of a config or a config.
        weights: Checkpoint of the whole model.
        **kwargs: See the inferencer.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If there is no such config; if the checkpoint does not fit, carries code or is none.
    """

    def __init__(self, model: str | PathLike | Config, weights: str, **kwargs: Any):
        super().__init__(model=load_config(model), weights=weights, **kwargs)  # type: ignore[call-arg]

    def _init_model(self, cfg: Config, weights: str, device: str = 'cpu') -> nn.Module:
        # In place of mmengine's, which unpickles whatever the file holds and warns of what does not fit.
        model = MODELS.build(cfg.model)
        model.cfg = cfg
        meta = load_model(model, weights)
        dataset = {**_dataset_meta(cfg), **(meta.pop('dataset_meta', None) or {})}
        if dataset:
            meta['dataset_meta'] = dataset
        # Theirs, for the names and colours of the classes; where none are known, it warns.
        self._load_weights_to_model(model, dict(state_dict=model.state_dict(), meta=meta), cfg)  # type: ignore[attr-defined]
        return model.to(device).eval()


def _dataset_meta(cfg: Config) -> dict[str, Any]:
    """Names and colours of the dataset that the config tests on, as far as it has them."""
    dataset = cfg.test_dataloader.dataset
    with DATASETS.switch_scope_and_registry(None) as registry:
        kind = registry.get(dataset.type) if isinstance(dataset.type, str) else dataset.type
    return {**getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {})}
