# Copyright (c) MMMixPro contributors.
"""Attention of timm's models in mmpretrain's ``TIMMBackbone``.

``TIMMBackbone`` returns all tokens of ViT, CaiT and XCiT; ``neck=dict(type='ClsTokenNeck')`` picks the class token for
the head. Its distilled DeiT returns one feature and needs none.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from mmpretrain.models import TIMMBackbone
from torch import Tensor

from .base import ClassAttention, no_class_attention, register_class_attention
from .class_block import class_query_and_keys
from .cls_row import ClassRow, outputs_of


class TIMMClassRow(ClassRow):
    """Last block of timm's ViT and DeiT, distilled or not.

    Its attention module calls torch's own function, after queries and keys went through norms, which are
    identities in most models.
    """

    def __init__(self, model: Any):
        from timm.models.vision_transformer import Attention  # installed, for the model is timm's

        attention = getattr(model.blocks[-1], 'attn', None)
        if model.cls_token is None or type(attention) is not Attention:
            raise no_class_attention(
                f'{type(model).__name__} of timm', ' (it has no class token, or blocks of another kind)'
            )
        self.attention = attention
        self.token_stride = _square(model)
        self.num_extra_tokens = model.num_prefix_tokens

    def watch(self, record: Callable[[Tensor, Tensor], None]) -> AbstractContextManager[None]:
        return outputs_of(self.attention.q_norm, self.attention.k_norm, then=record)


class TIMMClassBlock(ClassRow):
    """Last class attention block of timm's CaiT and XCiT."""

    num_extra_tokens = 1

    def __init__(self, model: Any):
        if model.cls_token is None:
            raise no_class_attention(f'{type(model).__name__} of timm', ' (it has no class token)')
        blocks = model.blocks_token_only if hasattr(model, 'blocks_token_only') else model.cls_attn_blocks
        self.attention = blocks[-1].attn
        self.token_stride = _square(model)

    def watch(self, record: Callable[[Tensor, Tensor], None]) -> AbstractContextManager[None]:
        return class_query_and_keys(self.attention, record)


# By name: timm need not be installed.
FAMILIES: dict[str, Callable[[Any], ClassAttention]] = dict(
    VisionTransformer=TIMMClassRow, Cait=TIMMClassBlock, Xcit=TIMMClassBlock
)


@register_class_attention(TIMMBackbone)
def timm_class_attention(backbone: TIMMBackbone) -> ClassAttention:
    """That of the model inside.

    Raises:
        ValueError: If its family is not known; for another, register a subclass of ``TIMMBackbone``.
    """
    model = backbone.timm_model
    for base in type(model).__mro__:
        if base.__module__.startswith('timm.') and base.__name__ in FAMILIES:
            return FAMILIES[base.__name__](model)
    raise no_class_attention(
        f'{type(model).__name__} in TIMMBackbone',
        f' (of timm, {sorted(FAMILIES)} and their subclasses have; for another, register a subclass of TIMMBackbone)',
    )


def _square(model: Any) -> int:
    embed = model.patch_embed
    # Behind a network of convolutions, tokens are larger than patches.
    side = embed.feat_ratio(as_scalar=False) if hasattr(embed, 'feat_ratio') else embed.patch_size
    sides = (side, side) if isinstance(side, int) else tuple(side)
    if sides[0] != sides[1]:
        raise ValueError(f'{type(model).__name__} of timm: patches must be square, got {sides}.')
    return sides[0]
