# Copyright (c) MMMixPro contributors.
"""Attention of mmpretrain's other backbones that have a class token, and why the rest has none.

========================= =============================================================================================
backbone                  class attention
========================= =============================================================================================
VisionTransformer         last block (DeiT, CLIP, DINOv2, MoCo v3, ... are the same class), see ``cls_row.py``
DistilledVisionTransformer, DeiT3  as VisionTransformer; the distillation token is dropped from the distilled one's
BEiTViT (BEiT, BEiT v2)   last block, relative positions included, for ``out_type='cls_token'``
ViTEVA02                  last block, rotary positions included, for ``out_type='cls_token'``
T2T_ViT                   last block of the encoder
TNT                       last outer block
Conformer                 last block of the transformer branch
RevVisionTransformer      last block, for ``with_cls_token=True``
XCiT                      last class attention block, see ``class_block.py``
PVT, CaiT, CASwin         ours, beside each backbone
TIMMBackbone              ViT, DeiT, CaiT and XCiT of timm, see ``timm_models.py``
those in ``NO_CLASS_TOKEN``  none: there is attention, but what the head is given is the mean of all patches
those in ``NO_ATTENTION``    none: networks of convolutions, of MLPs, or of graphs
========================= =============================================================================================
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmpretrain.models import TNT, BEiTViT, Conformer, RevVisionTransformer, T2T_ViT, ViTEVA02, backbones
from torch import Tensor, nn

from .base import REASONS, AttentionTap, register_class_attention
from .cls_row import ClassRow, RawTokens, check_class_token, inputs_of, outputs_of, square_stride

NO_CLASS_TOKEN = [
    'DaViT', 'EdgeNeXt', 'EfficientFormer', 'HiViT', 'LeViT', 'MViT', 'MixMIMTransformer', 'MobileViT', 'PCPVT',
    'SVT', 'SwinTransformer', 'SwinTransformerV2', 'TinyViT', 'ViTSAM',
]  # fmt: skip
NO_ATTENTION = [
    'AlexNet', 'CSPDarkNet', 'CSPNet', 'CSPResNet', 'CSPResNeXt', 'ConvMixer', 'ConvNeXt', 'DenseNet',
    'EfficientNet', 'EfficientNetV2', 'HRNet', 'HorNet', 'InceptionV3', 'LeNet5', 'MlpMixer', 'MobileNetV2',
    'MobileNetV3', 'MobileOne', 'PoolFormer', 'PyramidVig', 'RIFormer', 'RegNet', 'RepLKNet', 'RepMLPNet', 'RepVGG',
    'Res2Net', 'ResNeSt', 'ResNeXt', 'ResNet', 'ResNetV1c', 'ResNetV1d', 'ResNet_CIFAR', 'SEResNeXt', 'SEResNet',
    'ShuffleNetV1', 'ShuffleNetV2', 'SparseConvNeXt', 'SparseResNet', 'VAN', 'VGG', 'Vig',
]  # fmt: skip
for name in NO_CLASS_TOKEN:
    REASONS[getattr(backbones, name)] = f'{name} gives the head the mean of all patches'
REASONS[backbones.SwinTransformer] += '; CASwin has a class attention block in place of its last'
for name in NO_ATTENTION:
    REASONS[getattr(backbones, name)] = f'{name} has no attention between patches'


@torch.no_grad()
def _share(attention: Tensor, queries: slice, num_extra_tokens: int) -> Tensor:
    """How much of ``(N, heads, L, L)`` falls on each patch, over all heads and some queries; sums to 1."""
    patches = attention[:, :, queries, num_extra_tokens:].float().mean((1, 2))
    return patches / patches.sum(1, keepdim=True)


def _class_row(attention: Tensor, num_extra_tokens: int) -> Tensor:
    return _share(attention, slice(1), num_extra_tokens)


def _patch_columns(attention: Tensor, num_extra_tokens: int) -> Tensor:
    return _share(attention, slice(num_extra_tokens, None), num_extra_tokens)


class ComputedAttention(RawTokens):
    """Modules that compute the attention in full, as mmpretrain's with relative or rotary positions do.

    It is read on its way into their dropout, in the precision that they compute it with.
    """

    def tap(self, size: tuple[int, int]) -> AbstractContextManager[AttentionTap]:
        return self._read(size, _class_row)

    def patch_tap(self, size: tuple[int, int]) -> AbstractContextManager[AttentionTap]:
        return self._read(size, _patch_columns)

    def watch(self, record: Callable[..., None]) -> AbstractContextManager[None]:
        return inputs_of(self.attention.attn_drop, then=record)


@register_class_attention(BEiTViT)
@register_class_attention(ViTEVA02)
class BEiTClassAttention(ComputedAttention):
    """Last block."""

    def __init__(self, backbone: BEiTViT | ViTEVA02):
        check_class_token(backbone, backbone.num_layers - 1 in backbone.out_indices)
        self.backbone = backbone
        self.attention = backbone.layers[-1].attn
        self.token_stride = square_stride(backbone)
        self.num_extra_tokens = backbone.num_extra_tokens


@register_class_attention(T2T_ViT)
class T2TClassAttention(RawTokens):
    """Last block of the encoder, behind the three steps that merge pixels into tokens."""

    def __init__(self, backbone: T2T_ViT):
        check_class_token(backbone, len(backbone.encoder) - 1 in backbone.out_indices)
        self.backbone = backbone
        self.attention = backbone.encoder[-1].attn
        merge = backbone.tokens_to_token
        self.token_stride = merge.soft_split0.stride[0] * merge.soft_split1.stride[0] * merge.soft_split2.stride[0]
        self.num_extra_tokens = backbone.num_extra_tokens


@register_class_attention(RevVisionTransformer)
class RevViTClassAttention(RawTokens):
    """Last block; both streams have the class token."""

    def __init__(self, backbone: RevVisionTransformer):
        check_class_token(backbone)
        self.backbone = backbone
        self.attention = backbone.layers[-1].attn
        self.token_stride = square_stride(backbone)
        self.num_extra_tokens = backbone.num_extra_tokens


@register_class_attention(Conformer)
class ConformerClassAttention(ClassRow):
    """Last block of the transformer branch, whose class token is the second of the two features."""

    num_extra_tokens = 1

    def __init__(self, backbone: Conformer):
        last = backbone.fin_stage - 1
        if not backbone.with_cls_token or last not in backbone.out_indices:
            raise ValueError(
                f'Conformer has class attention for with_cls_token=True and {last} among out_indices, got '
                f'with_cls_token={backbone.with_cls_token} and out_indices={backbone.out_indices}. Set these two, or '
                "use area labels (type='MixClassifier')."
            )
        self.attention = getattr(backbone, f'conv_trans_{last}').trans_block.attn
        # The stem has a stride of 4.
        self.token_stride = 4 * backbone.trans_patch_conv.stride[0]


@register_class_attention(TNT)
class TNTClassAttention(ClassRow):
    """Last outer block, an ``nn.MultiheadAttention``, which returns its attention, averaged over heads."""

    num_extra_tokens = 1

    def __init__(self, backbone: TNT):
        self.attention: nn.MultiheadAttention = backbone.layers[-1].outer_block.attn.attn
        if self.attention.dropout:
            raise ValueError(
                f'TNT returns its attention without what attn_drop_rate={self.attention.dropout} has dropped of it. '
                "Set attn_drop_rate=0, or use area labels (type='MixClassifier')."
            )
        embed = backbone.pixel_embed
        self.token_stride = embed.proj.stride[0] * embed.unfold.stride[0]

    def tap(self, size: tuple[int, int]) -> AbstractContextManager[AttentionTap]:
        return self._read(size, _class_row)

    def watch(self, record: Callable[..., None]) -> AbstractContextManager[None]:
        def record_weights(returned: Any) -> None:
            record(returned[1][:, None])

        return outputs_of(self.attention, then=record_weights)
