# Copyright (c) MMMixPro contributors.
"""Weights of the same models of other libraries, under the names of ours.

Each function takes the state dict of a whole model and returns that of a classifier: ``backbone.*`` and
``head.fc.*``. Nothing is dropped but what is named here: a key that no rule knows keeps its name, and
loading strictly refuses it.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

Rules = Sequence[tuple[str, str | Callable[[re.Match], str]]]

FFN = ((r'\.mlp\.fc1\.', '.ffn.layers.0.0.'), (r'\.mlp\.fc2\.', '.ffn.layers.1.'))
CAIT = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^blocks\.', 'layers.'),
    (r'^blocks_token_only\.', 'ca_layers.'),
    (r'\.gamma_1$', '.gamma1.weight'),
    (r'\.gamma_2$', '.ffn.gamma2.weight'),
    (r'\.proj_l\.', '.mix_logits.'),
    (r'\.proj_w\.', '.mix_weights.'),
    *FFN,
    (r'^(?!head\.)', 'backbone.'),
    (r'^head\.', 'head.fc.'),
)
XCIT = (
    # An activation stands between any two of theirs.
    (r'^patch_embed\.proj\.(\d+)\.0\.', lambda found: f'patch_embed.proj.{int(found[1]) // 2}.conv.'),
    (r'^patch_embed\.proj\.(\d+)\.1\.', lambda found: f'patch_embed.proj.{int(found[1]) // 2}.bn.'),
    (r'token_projection\.', 'token_projection.conv.'),
    (r'^blocks\.', 'xca_layers.'),
    (r'^cls_attn_blocks\.', 'ca_layers.'),
    (r'\.local_mp\.(conv\d)\.', r'.local_mp.\1.conv.'),
    (r'\.local_mp\.bn\.', '.local_mp.conv1.bn.'),
    *FFN,
    (r'^(?!head\.)', 'backbone.'),
    (r'^head\.', 'head.fc.'),
)
SWIN = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    # Theirs begins a stage with it, ours ends one.
    (r'^layers\.(\d+)\.downsample\.', lambda found: f'stages.{int(found[1]) - 1}.downsample.'),
    (r'^layers\.', 'stages.'),
    (r'\.attn\.', '.attn.w_msa.'),
    *FFN,
    (r'^(?!head\.)', 'backbone.'),
)


def cait_from_timm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of timm's ``Cait``, and of the official checkpoints, for :class:`~mmmixpro.models.CaiT`."""
    return _rename(weights, CAIT)


def xcit_from_timm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of timm's ``Xcit`` for mmpretrain's ``XCiT``."""
    return _rename(weights, XCIT)


def ca_swin_from_timm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of timm's ``SwinTransformer`` for :class:`~mmmixpro.models.CASwin`.

    All but the last block, in whose place is a class attention block.
    """
    last = max(_block(name) for name in weights)
    renamed = _rename({name: value for name, value in weights.items() if _block(name) != last}, SWIN)
    final_norm = f'backbone.norm{last[0]}.'
    converted = {}
    for name, value in renamed.items():
        if '.downsample.' in name:
            value = _unfold_order(value)
        converted[name.replace('backbone.norm.', final_norm)] = value
    return converted


def _rename(weights: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    renamed = {}
    for name, value in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def _block(name: str) -> tuple[int, int]:
    """Stage and index of the Swin block that a weight of timm's belongs to; (-1, -1) for others."""
    found = re.match(r'layers\.(\d+)\.blocks\.(\d+)\.', name)
    return (int(found[1]), int(found[2])) if found else (-1, -1)


def _unfold_order(value: Tensor) -> Tensor:
    """The four patches to merge, in the last axis: column, row, channel there; channel, row, column in mmcv."""
    return value.unflatten(-1, (2, 2, -1)).transpose(-3, -1).flatten(-3)
