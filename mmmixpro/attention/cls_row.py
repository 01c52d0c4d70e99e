# Copyright (c) MMMixPro contributors.
"""Attention of backbones whose class token is one query of an ordinary self-attention."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils.attention import scaled_dot_product_attention_pyimpl
from torch import Tensor, nn

from .base import AttentionTap, ClassAttention, PatchAttention, register_class_attention

Reading = Callable[..., Tensor]


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


Seen = Callable[[nn.Module, tuple, Any], None]


@contextmanager
def _exchanged(modules: Sequence[nn.Module], seen: Seen) -> Iterator[None]:
    """Have ``seen`` called with a module, its inputs and its output, each time that one of them is called.

    Their ``forward`` is exchanged, for compiled code does not see hooks that come and go.
    """

    # Those that somebody else has exchanged before.
    before = {module: vars(module).get('forward') for module in modules}

    def forward_of(module: nn.Module) -> Callable:
        own, forward_of_class = before[module], type(module).forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            out = own(*args, **kwargs) if own else forward_of_class(module, *args, **kwargs)
            seen(module, args, out)
            return out

        return forward

    for module in modules:
        module.forward = forward_of(module)
    try:
        yield
    finally:
        for module, own in before.items():
            # Gone from the module, where it hides what its class has.
            del module.forward
            if own:
                module.forward = own


def outputs_of(*modules: nn.Module, then: Callable[..., None]) -> AbstractContextManager[None]:
    """Have ``then`` called with the outputs of modules, that are called in this order, inside the ``with`` block."""
    outputs: list[Any] = []

    def seen(module: nn.Module, args: tuple, out: Any) -> None:
        outputs.append(out)
        if module is modules[-1]:
            then(*outputs)
            outputs.clear()

    return _exchanged(modules, seen)


def inputs_of(module: nn.Module, then: Callable[..., None]) -> AbstractContextManager[None]:
    """Have ``then`` called with the inputs of a module inside the ``with`` block."""
    return _exchanged([module], lambda module, args, out: then(*args))


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

        def record(*seen: Tensor) -> None:
            tap.map = reading(*seen, self.num_extra_tokens).unflatten(1, (h, w))

        with self.watch(record):
            yield tap

    def watch(self, record: Callable[..., None]) -> AbstractContextManager[None]:
        """Have ``record`` called with the queries and keys, ``(N, heads, L, d)``, of each forward pass inside."""
        return self._watch_function(record)

    @contextmanager
    def _watch_function(self, record: Callable[..., None]) -> Iterator[None]:
        attend: Any = self.attention.scaled_dot_product_attention
        function, preset = getattr(attend, 'func', attend), getattr(attend, 'keywords', {})

        def attend_and_record(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            given = {**preset, **dict(zip(('attn_mask', 'dropout_p', 'is_causal'), args, strict=False)), **kwargs}
            if given.get('attn_mask') is not None or given.get('is_causal'):
                raise ValueError(
                    f'{type(self).__name__} reads attention from queries and keys, but {type(self.attention).__name__} '
                    'masks it (attn_mask or is_causal). Override `watch` and `tap` to read what it computes, as '
                    'mmmixpro.attention.ComputedAttention does.'
                )
            scale = given.get('scale')
            if scale is not None:
                # mmpretrain's own divides by it, where modules have a `qk_scale`.
                scale = 1 / scale if function is scaled_dot_product_attention_pyimpl else scale
                scaled = query.float() * (scale * math.sqrt(query.size(-1)))
            record(query if scale is None else scaled, key)
            return attend(query, key, value, *args, **kwargs)

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


def check_class_token(backbone: Any, returns_last: bool = True) -> None:
    """Raise ValueError unless the head is given the class token of the last layer, if the backbone returns that."""
    name = type(backbone).__name__
    if backbone.cls_token is None:
        raise ValueError(
            f'{name} without a class token (with_cls_token=False) has no class attention; '
            "set with_cls_token=True, or use area labels (type='MixClassifier')."
        )
    if backbone.out_type in ('featmap', 'avg_featmap') or not returns_last:
        out_indices = getattr(backbone, 'out_indices', [-1])
        raise ValueError(
            f'{name} with out_type={backbone.out_type!r} and out_indices={out_indices} gives the head no '
            'class token of its last block, so nothing would train the class attention. Set '
            "out_type='cls_token' and out_indices=-1, or use area labels (type='MixClassifier')."
        )


def square_stride(backbone: Any) -> int:
    """Side in pixels of the patches that mmcv's ``PatchEmbed`` makes; ValueError if they are not square."""
    stride, stride_w = backbone.patch_embed.projection.stride
    if stride_w != stride:
        raise ValueError(f'{type(backbone).__name__}: patches must be square, got strides {(stride, stride_w)}.')
    return stride


@register_class_attention(VisionTransformer)
class ViTClassAttention(RawTokens):
    """Last block of mmpretrain's ViT and of its relatives with the same attention module."""

    def __init__(self, backbone: VisionTransformer):
        self.backbone = backbone
        self.token_stride = square_stride(backbone)
        self.attention = backbone.layers[-1].attn
        self.num_extra_tokens = backbone.num_extra_tokens
        check_class_token(backbone, backbone.num_layers - 1 in backbone.out_indices)
        if not hasattr(self.attention, 'scaled_dot_product_attention'):
            raise ValueError(
                f'The {type(self.attention).__name__} of {type(backbone).__name__} does not go through '
                'scaled_dot_product_attention, where its class attention could be taken. Register a '
                "ClassAttention of its own, or use area labels (type='MixClassifier')."
            )

    def feature(self, tokens: Tensor) -> Any:
        # A distilled ViT gives two tokens.
        return self.backbone._format_output(tokens, None)
