# Copyright (c) MMMixPro contributors.
"""Checkpoints of other libraries for the models of our configs, and back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmmixpro.models import CASwin

from . import convert
from .checkpoint import load_strictly
from .weights import load_weights
from .writing import target_path, write_weights

Convert = Callable[..., dict[str, Tensor]]
Known = TypeVar('Known')


@dataclass(frozen=True)
class Converters:
    """Of one backbone.

    Attributes:
        to_ours: From the layout of timm or of the official code.
        from_ours: By the name of the layout.
        missing: Patterns of what the others have no weights for in a backbone: its last block, of class attention.
    """

    to_ours: Convert
    from_ours: Mapping[str, Convert] = field(default_factory=dict)
    missing: Callable[[Any], Sequence[str]] = lambda backbone: ()


def _class_attention_block(backbone: CASwin) -> list[str]:
    last = backbone.num_layers - 1
    return [f'stages.{last}.blocks.{len(backbone.stages[last].blocks) - 1}.*'] if backbone.with_cls_token else []


CONVERTERS = dict(
    VisionTransformer=Converters(convert.vit_from_timm, dict(timm=convert.vit_to_timm)),
    CaiT=Converters(convert.cait_from_timm, dict(timm=convert.cait_to_timm)),
    XCiT=Converters(convert.xcit_from_timm, dict(timm=convert.xcit_to_timm)),
    CASwin=Converters(convert.ca_swin_from_timm, missing=_class_attention_block),
    PVT=Converters(convert.pvt_from_official, dict(mmdet=convert.pvt_to_mmdet, official=convert.pvt_to_official)),
)
# Where heads have the linear layer that classifies. Classes that inherit from these are converted alike.
HEADS = dict(LinearClsHead=convert.FC, VisionTransformerClsHead=convert.VIT_HEAD)
# What our methods learn besides the model.
OURS_ALONE = ('token_head.*', 'labels.*')
SOURCE = 'Give the file to convert.'
SAME_MODEL = 'Give the checkpoint and the config of the same model.'


def to_ours(
    config: str, source: str, target: str, allow_missing: Sequence[str] = (), allow_unexpected: Sequence[str] = ()
) -> str:
    """Convert a checkpoint of timm or of a model's official code for the model of a config of ours.

    SMMix's checkpoints of DeiT and PVT are of these layouts; their ``model_ema`` is not read, for it holds initial
    weights. The target, which is written whole or not at all, holds ``state_dict`` alone, or is a file of the weights
    by safetensors if its name ends so; that one only ``Pretrained`` with ``strict=True`` can load.

    Args:
        config: A config of a classifier.
        source: The checkpoint, read by :func:`~mmmixpro.utils.weights.load_weights`.
        target: Where to write.
        allow_missing: Patterns, as in file names, of weights of ours that the source may lack.
        allow_unexpected: Patterns of weights that stay behind, by the source's names or by ours.

    Returns:
        str: What was converted.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If the checkpoint cannot be read, is not of the model of the config, or cannot be written.
    """
    path = target_path(target, source)
    model, converters, head = _model(config)
    weights = converters.to_ours(load_weights(source, advice=SOURCE), head=head, ignore=allow_unexpected)
    block = converters.missing(model.backbone)
    report = load_strictly(
        model,
        weights,
        f'{source} into the model of {config}',
        f'{SAME_MODEL} List what may be missing (allow-missing), or stay behind (allow-unexpected).',
        [*(f'backbone.{name}' for name in block), *allow_missing],
    )
    write_weights(weights, path)
    if block:
        init_cfg = dict(type='Pretrained', checkpoint=target, prefix='backbone.', strict=True)
        report += (
            f'\nThe last block of the source has no place, and that of class attention, {", ".join(block)}, is not in '
            f'{target}. To load it, add to the init_cfg of the backbone: {dict(init_cfg, allow_missing=block)}'
        )
    return report


def from_ours(config: str, source: str, target: str, layout: str, allow_unexpected: Sequence[str] = ()) -> str:
    """Convert a checkpoint of ours to the layout of another library.

    Args:
        config: The config that it was trained with.
        source: The checkpoint; with ``EMAHook``, the averaged weights are taken.
        target: Where to write.
        layout: ``'timm'``, ``'mmdet'`` (the backbone, to be loaded with ``convert_weights=False``) or ``'official'``.
        allow_unexpected: Patterns, as in file names, of weights that stay behind, by our names or by the layout's.

    Returns:
        str: What was converted.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If the checkpoint cannot be read, is not of the config, or cannot be written, or if that library
            has no such model.
    """
    path = target_path(target, source)
    model, converters, head = _model(config)
    if layout not in converters.from_ours:
        raise ValueError(
            f'Cannot convert the {type(model.backbone).__name__} of {config} for {layout!r}: it can be converted for '
            f'{sorted(converters.from_ours) or "no other library"}. Those who have it: '
            f'{[name for name, others in CONVERTERS.items() if layout in others.from_ours]}.'
        )
    weights = load_weights(source, advice=SOURCE)
    behind = (*OURS_ALONE, *allow_unexpected)
    report = load_strictly(
        model,
        weights,
        f'{source} into the model of {config}',
        f'{SAME_MODEL} List what may stay behind (allow-unexpected).',
        allow_unexpected=behind,
    )
    write_weights(converters.from_ours[layout](weights, head=head, ignore=behind), path)
    return report


def _model(config: str) -> tuple[nn.Module, Converters, str]:
    if not Path(config).is_file():
        raise FileNotFoundError(
            f'Expected a config, such as configs/baseline/deit-s_8xb128_in1k.py, found no {config!r}.'
        )
    cfg = Config.fromfile(config).get('model', {})
    converters, head = _known('backbone', CONVERTERS, cfg, config), _known('head', HEADS, cfg, config)
    init_default_scope('mmpretrain')
    return nn.ModuleDict({part: MODELS.build(cfg[part]) for part in ('backbone', 'head')}), converters, head


def _known(part: str, known: Mapping[str, Known], model: Mapping, config: str) -> Known:
    kind = (model.get(part) or {}).get('type')
    # A class, or its name with or without a scope.
    bases = getattr(MODELS.get(kind) if isinstance(kind, str) else kind, '__mro__', ())
    for base in bases:
        if base.__name__ in known:
            return known[base.__name__]
    raise ValueError(
        f'{config}: expected a classifier whose {part} is one of {sorted(known)}, found {kind!r}. Give the config of '
        'such a model.'
    )
