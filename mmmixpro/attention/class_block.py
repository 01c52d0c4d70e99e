# Copyright (c) MMMixPro contributors.
"""Attention of backbones whose class token reads the patches in blocks of its own (class attention)."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from mmpretrain.models import XCiT
from torch import Tensor

from .base import AttentionTap, register_class_attention
from .cls_row import RawTokens, outputs_of


class ClassBlock(RawTokens):
    """The only query of the last block is the class token: its row is all the attention that there is.

    SMMix, which asks where the patches look, is told where the class token does. SMMix's authors report
    CaiT and released no code for it.

    Args:
        backbone: The backbone.
        last: Index of its last layer among ``out_indices``.

    Raises:
        ValueError: If the head is not given the class token of the last layer.
    """

    num_extra_tokens = 1

    def __init__(self, backbone: Any, last: int):
        if backbone.out_type != 'cls_token' or last not in backbone.out_indices:
            raise ValueError(
                f'{type(backbone).__name__} gives the head the class token of its last block, and has class attention, '
                f"for out_type='cls_token' and {last} among out_indices only; this one has "
                f'out_type={backbone.out_type!r} and out_indices={backbone.out_indices}. Set these two, or use area '
                "labels (type='MixClassifier')."
            )
        self.backbone = backbone

    def patch_tap(self, size: tuple[int, int]) -> AbstractContextManager[AttentionTap]:
        return self.tap(size)


def class_query_and_keys(attention: Any, record: Callable[[Tensor, Tensor], None]) -> AbstractContextManager[None]:
    """Have ``record`` called with what the layers ``q``, of the class token alone, and ``k`` of a module give."""

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)

    return outputs_of(attention.q, attention.k, then=lambda q, k: record(heads(q[:, None]), heads(k)))


@register_class_attention(XCiT)
class XCiTClassAttention(ClassBlock):
    """Last class attention block of mmpretrain's XCiT; never its cross-covariance attention, which is of channels.

    mmpretrain computes class attention in steps that hold no function to exchange. So the ``forward``
    of the linear layers of queries and keys is exchanged: their outputs are all that is needed.
    """

    def __init__(self, backbone: XCiT):
        super().__init__(backbone, last=backbone.num_layers - 1)
        self.attention = backbone.ca_layers[-1].attn
        self.token_stride = backbone.patch_embed.patch_size

    def watch(self, record: Callable[[Tensor, Tensor], None]) -> AbstractContextManager[None]:
        return class_query_and_keys(self.attention, record)
