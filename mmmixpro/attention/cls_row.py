# Copyright (c) MMMixPro contributors.
"""Attention of backbones whose class token is one query of an ordinary self-attention."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from mmpretrain.models import VisionTransformer
from torch import Tensor

from .base import AttentionTap, ClassAttention, PatchAttention, register_class_attention

Reading = Callable[[Tensor, Tensor, int], Tensor]


@torch.no_grad()
def _patches_seen(query: Tensor, key: Tensor, num_extra_tokens: int) -> Tensor:
    """How much all queries, over all heads, look at each patch, in float32; ``(N, patches)``, sums to 1."""
    with torch.autocast(query.device.type, enabled=False):
        query, key = query.float(), key.float()
        attention = (query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))).softmax(-1)
        patches = attention[..., num_extra_tokens:].mean((1, 2))
        return patches / patches.sum(1, keepdim=True)


def class_row(query: Tensor, key: Tensor, num_extra_tokens: int) -> Tensor:
    """Attention of the class token over the patches (Eq. 3 and 4 of MixPro), in float32.

    Args:
        query: ``(N, heads, L, d)``, class token first.
        key: ``(N, heads, L, d)``.
        num_extra_tokens: Tokens before the patches (class, distillation, registers); dropped, and
            the rest renormalised to sum to 1.

    Returns:
        Tensor: ``(N, L - num_extra_tokens)``.
    """
    return _patches_seen(query[:, :, :1], key, num_extra_tokens)


def patch_columns(query: Tensor, key: Tensor, num_extra_tokens: int) -> Tensor:
    """How much the patches look at each patch: SMMix's image attention score, in float32.

    The mean of each column of ``softmax(q k^T / sqrt(d))`` over heads and patch queries. Other than
    :func:`class_row` it takes O(L^2); arguments and shapes are the same.
    """
    return _patches_seen(query[:, :, num_extra_tokens:], key, num_extra_tokens)


class ClassRow(ClassAttention):
    """Reads queries and keys on their way into fused attention.

    The attention module calls the function that it holds as ``scaled_dot_product_attention``;
    for the length of one forward pass that function also takes down the attention asked for.
    Nothing stays on the module, and, other than a forward hook, the exchange is seen by compiled
    code.
    """

    attention: Any
    num_extra_tokens: int

    def tap(self, size: tuple[int, int]) -> AbstractContextManager[AttentionTap]:
        return self._read(size, class_row)

    def patch_tap(self, size: tuple[int, int]) -> AbstractContextManager[AttentionTap]:
        return self._read(size, patch_columns)

    @contextmanager
    def _read(self, size: tuple[int, int], reading: Reading) -> Iterator[AttentionTap]:
        tap = AttentionTap()
        if any(side % self.token_stride for side in size):
            raise ValueError(
                f'Images of {size[0]} x {size[1]} px do not divide into tokens of {self.token_stride} px, and the mask '
                'cannot be read on padded ones. Crop, resize or pad images to a multiple of '
                f'{self.token_stride} (data_preprocessor.pad_size_divisor).'
            )
        h, w = (side // self.token_stride for side in size)

        def record(query: Tensor, key: Tensor) -> None:
            tap.map = reading(query, key, self.num_extra_tokens).unflatten(1, (h, w))

        with self.watch(record):
            yield tap

    @contextmanager
    def watch(self, record: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
        """Have ``record`` called with the queries and keys, ``(N, heads, L, d)``, of each forward pass inside."""
        attend: Callable[..., Tensor] = self.attention.scaled_dot_product_attention

        def attend_and_record(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
            record(query, key)
            return attend(query, key, value, **kwargs)

        self.attention.scaled_dot_product_attention = attend_and_record
        try:
            yield
        finally:
            self.attention.scaled_dot_product_attention = attend


class RawTokens(ClassRow, PatchAttention):
    """Backbones that return all tokens of a block, ``(N, L, C)``, for ``out_type='raw'``.

    Compiled code is guarded by the value of ``out_type``, so the exchange is seen by it.
    """

    backbone: Any

    def with_tokens(self, images: Tensor) -> tuple[tuple, Tensor]:
        out_type, self.backbone.out_type = self.backbone.out_type, 'raw'
        try:
            blocks = self.backbone(images)
        finally:
            self.backbone.out_type = out_type
        return tuple(self.feature(tokens) for tokens in blocks), blocks[-1][:, self.num_extra_tokens :]

    def feature(self, tokens: Tensor) -> Any:
        """What the backbone returns of the tokens ``(N, L, C)`` of a block, normally."""
        # Laid out as there, too, or a compiled head would be compiled again.
        return tokens[:, 0].contiguous()


@register_class_attention(VisionTransformer)
class ViTClassAttention(RawTokens):
    """Last block of mmpretrain's ViT and of its relatives with the same attention module."""

    def __init__(self, backbone: VisionTransformer):
        self.backbone = backbone
        self.token_stride, stride_w = backbone.patch_embed.projection.stride
        self.attention = backbone.layers[-1].attn
        self.num_extra_tokens = backbone.num_extra_tokens
        name = type(backbone).__name__
        if stride_w != self.token_stride:
            raise ValueError(f'{name}: patches must be square, got strides {(self.token_stride, stride_w)}.')
        if backbone.cls_token is None:
            raise ValueError(
                f'{name} without a class token (with_cls_token=False) has no class attention; '
                "set with_cls_token=True, or use area labels (type='MixClassifier')."
            )
        if backbone.out_type in ('featmap', 'avg_featmap') or backbone.num_layers - 1 not in backbone.out_indices:
            raise ValueError(
                f'{name} with out_type={backbone.out_type!r} and out_indices={backbone.out_indices} gives the head no '
                'class token of its last block, so nothing would train the class attention. Set '
                "out_type='cls_token' and out_indices=-1, or use area labels (type='MixClassifier')."
            )
        if not hasattr(self.attention, 'scaled_dot_product_attention'):
            raise ValueError(
                f'The {type(self.attention).__name__} of {name} does not go through '
                'scaled_dot_product_attention, where its class attention could be taken. Register a '
                "ClassAttention of its own, or use area labels (type='MixClassifier')."
            )

    def feature(self, tokens: Tensor) -> Any:
        # A distilled ViT gives two tokens.
        return self.backbone._format_output(tokens, None)
