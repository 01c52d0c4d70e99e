# Copyright (c) MMMixPro contributors.
from os import PathLike
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from torch import nn

from mmmixpro.utils.model_file import load_model, read_meta
from mmmixpro.utils.weights import load_weights

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
        load_model(model, weights)
        meta = read_meta(weights)
        meta['dataset_meta'] = {**_dataset_meta(cfg), **meta.get('dataset_meta', {})}
        # Theirs, for the names and colours of the classes.
        self._load_weights_to_model(model, dict(state_dict=load_weights(weights), meta=meta), cfg)  # type: ignore[attr-defined]
        return model.to(device).eval()


def _dataset_meta(cfg: Config) -> dict[str, Any]:
    dataset = cfg.test_dataloader.dataset
    with DATASETS.switch_scope_and_registry(None) as registry:
        return {**registry.get(dataset.type).METAINFO, **dataset.get('metainfo', {})}
