# Copyright (c) MMMixPro contributors.
"""What a classifier weighs, and what an image costs it; nothing is computed, and memory is not needed."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode


class OnMeta(TorchFunctionMode):
    """Parameters made within take no memory; what is computed, such as drop path rates, is."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


def require_classifier(model: Mapping | None) -> None:
    """Raise ValueError if a config's model is no classifier."""
    found = sorted(model or {})
    if 'backbone' not in found or 'head' not in found:
        raise ValueError(
            f'Expected the model of a classifier, with backbone and head, found {found or "no model"}. Give the config '
            'of a classifier; for segmentors and detectors, mmengine has get_model_complexity_info.'
        )


def count(model: Mapping, shape: tuple[int, int] | None = None) -> dict[str, Any]:
    """Parameters, and FLOPs of the forward pass of one image, of a classifier.

    As usual in papers, a multiplication and the addition after it are one FLOP, and matrix products and
    convolutions are all that counts; attention is among them, fused or not. What a method adds for
    training, such as SMMix's token head, is not part of it.

    Args:
        model: Config of the classifier.
        shape: ``(H, W)`` of the image in pixels; the size that the backbone is made for, if it says so, else 224.

    Returns:
        dict[str, Any]: ``params``, ``flops`` and ``shape``.

    Raises:
        ValueError: If the model is no classifier.
    """
    require_classifier(model)
    if shape is None:
        side = model['backbone'].get('img_size', 224)
        shape = (side, side) if isinstance(side, int) else tuple(side)
    init_default_scope('mmpretrain')
    parts = {part: model[part] for part in ('backbone', 'neck', 'head') if model.get(part)}
    with OnMeta():
        classifier = MODELS.build(dict(type='ImageClassifier', **parts))
    # Buffers too.
    classifier.to('meta')
    classifier.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        classifier(torch.empty(1, 3, *shape, device='meta'))
    params = sum(parameter.numel() for parameter in classifier.parameters())
    return dict(params=params, flops=counter.get_total_flops() // 2, shape=list(shape))
