# Copyright (c) MMMixPro contributors.
"""Checkpoints of other libraries for the models of our configs, and back."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine import fileio
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmmixpro.models import CASwin

from . import convert
from .checkpoint import load_strictly
from .weights import load_weights

Convert = Callable[..., dict[str, Tensor]]


@dataclass(frozen=True)
class Converters:
    """Of one backbone.

    Attributes:
        to_ours: From the layout of timm or of the official code.
        from_ours: By the name of the layout.
        missing: Patterns of what the others have no weights for, in a backbone.
    """

    to_ours: Convert
    from_ours: Mapping[str, Convert] = field(default_factory=dict)
    missing: Callable[[Any], Sequence[str]] = lambda backbone: ()


def _class_attention_block(backbone: CASwin) -> list[str]:
    stage = backbone.num_layers - 1
    block = f'backbone.stages.{stage}.blocks.{len(backbone.stages[stage].blocks) - 1}.*'
    # Indices are computed, not learned.
    return [block, '*.relative_position_index']


CONVERTERS = dict(
    VisionTransformer=Converters(convert.vit_from_timm, dict(timm=convert.vit_to_timm)),
    DistilledVisionTransformer=Converters(convert.vit_from_timm, dict(timm=convert.vit_to_timm)),
    CaiT=Converters(convert.cait_from_timm, dict(timm=convert.cait_to_timm)),
    XCiT=Converters(convert.xcit_from_timm, dict(timm=convert.xcit_to_timm)),
    CASwin=Converters(convert.ca_swin_from_timm, missing=_class_attention_block),
    PVT=Converters(convert.pvt_from_official, dict(mmdet=convert.pvt_to_mmdet, official=convert.pvt_to_official)),
)
# Where heads have the linear layer that classifies.
HEADS = dict(LinearClsHead=convert.FC, VisionTransformerClsHead=convert.VIT_HEAD, DeiTClsHead=convert.VIT_HEAD)
# What our methods learn besides the model.
OURS_ALONE = ('token_head.*', 'labels.*')


def to_ours(
    config: str, source: str, target: str, allow_missing: Sequence[str] = (), allow_unexpected: Sequence[str] = ()
) -> str:
    """Convert a checkpoint of timm or of a model's official code for the model of a config of ours.

    SMMix's checkpoints of DeiT and PVT are of these layouts; their ``model_ema`` is not read, for it holds initial
    weights. The target, which is written whole or not at all, holds ``state_dict`` alone.

    Args:
        config: A config of a classifier.
        source: The checkpoint, read by :func:`~mmmixpro.utils.weights.load_weights`.
        target: Where to write.
        allow_missing: Patterns, as in file names, of weights of ours that the source may lack.
        allow_unexpected: Patterns of weights of the source that may stay behind.

    Returns:
        str: What was converted.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If the checkpoint cannot be read, or is not of the model of the config.
    """
    model, converters, head = _model(config, target, source)
    weights = converters.to_ours(load_weights(source), head=head, ignore=allow_unexpected)
    missing = [*converters.missing(model.backbone), *allow_missing]
    report = _check(model, weights, f'{source} into the model of {config}', missing)
    _write(weights, target)
    return report


def from_ours(config: str, source: str, target: str, layout: str, allow_unexpected: Sequence[str] = ()) -> str:
    """Convert a checkpoint of ours to the layout of another library.

    Args:
        config: The config that it was trained with.
        source: The checkpoint; with ``EMAHook``, the averaged weights are taken.
        target: Where to write.
        layout: ``'timm'``, ``'mmdet'`` (the backbone, to be loaded with ``convert_weights=False``) or ``'official'``.
        allow_unexpected: Patterns, as in file names, of weights that may stay behind.

    Returns:
        str: What was converted.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If the checkpoint cannot be read or is not of the config, or if that library has no such model.
    """
    model, converters, head = _model(config, target, source)
    if layout not in converters.from_ours:
        raise ValueError(
            f'Cannot convert the {type(model.backbone).__name__} of {config} for {layout!r}: it can be converted for '
            f'{sorted(converters.from_ours) or "no other library"}. Those who have it: '
            f'{[name for name, others in CONVERTERS.items() if layout in others.from_ours]}.'
        )
    weights = load_weights(source)
    behind = (*OURS_ALONE, *allow_unexpected)
    report = _check(model, weights, f'{source} into the model of {config}', (), behind)
    _write(converters.from_ours[layout](weights, head=head, ignore=behind), target)
    return report


def _model(config: str, target: str, source: str) -> tuple[nn.Module, Converters, str]:
    if not Path(config).is_file():
        raise FileNotFoundError(
            f'Expected a config, such as configs/baseline/deit-s_8xb128_in1k.py, found no {config!r}.'
        )
    if Path(target).resolve() == Path(source).resolve():
        raise ValueError(f'{target} would replace what it is made of. Give the result a name of its own.')
    cfg = Config.fromfile(config)
    backbone, head = (cfg.get('model', {}).get(part, {}) for part in ('backbone', 'head'))
    for part, found, known in (('backbone', backbone, CONVERTERS), ('head', head, HEADS)):
        if found.get('type') not in known:
            raise ValueError(
                f'{config}: expected a classifier whose {part} is one of {sorted(known)}, found '
                f'{found.get("type")!r}. Give the config of such a model.'
            )
    init_default_scope('mmpretrain')
    # Without weights that the config may name for it.
    parts = {part: {**found, 'init_cfg': None} for part, found in (('backbone', backbone), ('head', head))}
    model = nn.ModuleDict({part: MODELS.build(found) for part, found in parts.items()})
    return model, CONVERTERS[backbone.type], HEADS[head.type]


def _check(
    model: nn.Module,
    weights: dict[str, Tensor],
    what: str,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
) -> str:
    advice = (
        'Give the checkpoint and the config of the same model. What may be missing or stay behind can be listed: '
        '--allow-missing, --allow-unexpected.'
    )
    return load_strictly(model, weights, what, advice, allow_missing, allow_unexpected)


def _write(weights: dict[str, Tensor], target: str) -> None:
    content = io.BytesIO()
    # Parts of a tensor, such as positions without that of the class token, would be saved with all of it.
    torch.save(dict(state_dict={name: value.clone() for name, value in weights.items()}), content)
    fileio.put(content.getvalue(), target, backend_args=dict(backend='mmmixpro.atomic'))
