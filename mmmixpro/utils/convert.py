# Copyright (c) MMMixPro contributors.
"""Weights of the same models of other libraries, under the names of ours and back.

``*_from_*`` take the state dict of a whole model and return that of a classifier, ``backbone.*`` and ``head.*``;
``*_to_*`` do the reverse. ``head`` says where the classifier has its linear layer: ``'head.fc'`` in a
``LinearClsHead``, ``'head.layers.head'`` in a ``VisionTransformerClsHead``. What matches one of ``ignore``, patterns as
in file names, by its old or its new name stays behind; any other name that no rule knows is an error.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .names import CAIT, MMDET, PVT, SWIN, VIT, XCIT, rename, reverse, with_head

FC = 'head.fc'
VIT_HEAD = 'head.layers.head'
# SMMix's second head, which classifies no image.
TOKEN_HEAD = 'token_head.*'
# Computed, not learned.
SWIN_BUFFERS = ('*.relative_position_index', '*.attn_mask')


def vit_from_timm(weights: Mapping[str, Tensor], head: str = VIT_HEAD, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Of timm's DeiT, distilled or not, and of the official and SMMix's checkpoints, for mmpretrain's."""
    renamed = rename(weights, with_head(VIT, head), (TOKEN_HEAD, *ignore))
    position = renamed.get('backbone.pos_embed')
    if position is not None and 'dist_token' in weights and 'backbone.dist_token' not in renamed:
        # The second position is that of the token that stays behind.
        renamed['backbone.pos_embed'] = torch.cat([position[:, :1], position[:, 2:]], 1)
    return renamed


def vit_to_timm(weights: Mapping[str, Tensor], head: str = VIT_HEAD, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Of mmpretrain's DeiT, distilled or not, for timm's."""
    return rename(weights, reverse(with_head(VIT, head)), ignore)


def cait_from_timm(weights: Mapping[str, Tensor], head: str = FC, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Of timm's ``Cait``, and of the official checkpoints, for :class:`~mmmixpro.models.CaiT`."""
    return rename(weights, with_head(CAIT, head), ignore)


def cait_to_timm(weights: Mapping[str, Tensor], head: str = FC, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Of :class:`~mmmixpro.models.CaiT` for timm's ``Cait``."""
    return rename(weights, reverse(with_head(CAIT, head)), ignore)


def xcit_from_timm(weights: Mapping[str, Tensor], head: str = FC, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Of timm's ``Xcit``, and of the official checkpoints, for mmpretrain's ``XCiT``."""
    timms = {}
    for name, value in weights.items():
        name = name.replace('pos_embeder.', 'pos_embed.')
        fused = re.fullmatch(r'(cls_attn_blocks\.\d+\.attn\.)qkv(\..+)', name)
        # The official class attention has one layer for the three of timm's.
        if fused:
            timms.update({f'{fused[1]}{part}{fused[2]}': x for part, x in zip('qkv', value.chunk(3), strict=True)})
        else:
            timms[name] = value
    return rename(timms, with_head(XCIT, head), ignore)


def xcit_to_timm(weights: Mapping[str, Tensor], head: str = FC, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Of mmpretrain's ``XCiT`` for timm's ``Xcit``."""
    return rename(weights, reverse(with_head(XCIT, head)), ignore)


def ca_swin_from_timm(weights: Mapping[str, Tensor], head: str = FC, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Of timm's ``SwinTransformer``, and of the official checkpoints, for :class:`~mmmixpro.models.CASwin`.

    All but the last block, in whose place is a class attention block.
    """
    last = max((_block(name) for name in weights), default=(-1, -1))
    shared = {name: value for name, value in weights.items() if _block(name) != last or last == (-1, -1)}
    # A stage ends with it in the official checkpoints and in ours; one of timm's begins with it.
    begins = not any(name.startswith('layers.0.downsample.') for name in shared)
    swin = {}
    for name, value in shared.items():
        if begins and (found := re.match(r'layers\.([1-9]\d*)(\.downsample\..+)', name)):
            name = f'layers.{int(found[1]) - 1}{found[2]}'
        swin[name] = _unfold_order(value) if '.downsample.' in name else value
    return rename(swin, with_head(SWIN, head), (*SWIN_BUFFERS, *ignore))


def pvt_from_official(weights: Mapping[str, Tensor], head: str = FC, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Of the official PVT (version 1), and of SMMix's, for :class:`~mmmixpro.models.PVT`."""
    return rename(weights, with_head(PVT, head), (TOKEN_HEAD, *ignore))


def pvt_to_official(weights: Mapping[str, Tensor], head: str = FC, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Of :class:`~mmmixpro.models.PVT` for the official PVT, which mmdet's reads with ``convert_weights=True``."""
    return rename(weights, reverse(with_head(PVT, head)), ignore)


def pvt_to_mmdet(weights: Mapping[str, Tensor], head: str = FC, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Of :class:`~mmmixpro.models.PVT` for mmdet's ``PyramidVisionTransformer``, with ``convert_weights=False``.

    It is a backbone without class token: that, its position, the final norm and the head stay behind.
    """
    official = pvt_to_official(weights, head, ignore)
    # Queries, keys and values have one layer there, and the FFN consists of convolutions.
    for name in [name for name in official if '.attn.q.' in name]:
        keys_and_values = official.pop(name.replace('.q.', '.kv.'))
        official[name.replace('.q.', '.qkv.')] = torch.cat([official.pop(name), keys_and_values])
    for name, value in official.items():
        if re.search(r'\.mlp\.fc\d\.weight$', name):
            official[name] = value[..., None, None]
    if 'backbone.cls_token' in weights and 'pos_embed4' in official:
        official['pos_embed4'] = official['pos_embed4'][:, 1:]
    moved = {re.sub(r'^(block\d)\.(\d+)', _next_block, name): value for name, value in official.items()}
    return rename(moved, MMDET, ('cls_token', 'norm.*', 'head.*'))


def _next_block(found: re.Match) -> str:
    return f'{found[1]}.{int(found[2]) + 1}'


def _block(name: str) -> tuple[int, int]:
    """Stage and index of the Swin block that a weight belongs to; (-1, -1) for others."""
    found = re.match(r'layers\.(\d+)\.blocks\.(\d+)\.', name)
    return (int(found[1]), int(found[2])) if found else (-1, -1)


def _unfold_order(value: Tensor) -> Tensor:
    """The four patches to merge, in the last axis: column, row, channel there; channel, row, column in mmcv."""
    return value.unflatten(-1, (2, 2, -1)).transpose(-3, -1).flatten(-3)
