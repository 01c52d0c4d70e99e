# Copyright (c) MMMixPro contributors.
"""Building blocks of :class:`~mmmixpro.models.PVT`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.drop import build_dropout
from mmcv.cnn.bricks.transformer import FFN, PatchEmbed
from mmengine.model import BaseModule, ModuleList
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn
from torch.nn import functional as F


class SpatialReductionAttention(BaseModule):
    """Multi-head attention whose keys and values are pooled by a strided convolution.

    Args:
        embed_dims: Channels.
        num_heads: Heads.
        sr_ratio: Pooling of keys and values along each side; 1 pools nothing.
        norm_cfg: Config of the norm after pooling.
    """

    def __init__(self, embed_dims: int, num_heads: int, sr_ratio: int, norm_cfg: dict):
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(embed_dims, embed_dims)
        self.kv = nn.Linear(embed_dims, 2 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.sr: nn.Module | None = None
        if sr_ratio > 1:
            self.sr = nn.Conv2d(embed_dims, embed_dims, sr_ratio, sr_ratio)
            self.norm = build_norm_layer(norm_cfg, embed_dims)[1]
        # Held as an attribute, as in mmpretrain's MultiheadAttention, for the class attention.
        self.scaled_dot_product_attention = F.scaled_dot_product_attention

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Attend.

        Args:
            x: ``(N, L, C)``.
            hw_shape: Token grid, used where ``sr_ratio > 1`` (then ``L = h * w``).
        """
        source = x
        if self.sr is not None:
            pooled = self.sr(x.transpose(1, 2).unflatten(2, hw_shape))
            source = self.norm(pooled.flatten(2).transpose(1, 2))
        query = self.q(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        key, value = self.kv(source).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = self.scaled_dot_product_attention(query, key, value)
        return self.proj(out.transpose(1, 2).flatten(2))


class PVTBlock(BaseModule):
    """One encoder layer of PVT; arguments as in :class:`SpatialReductionAttention`.

    Args:
        feedforward_channels: Hidden channels of the FFN.
        drop_path_rate: Chance in [0, 1) that a sample skips a branch.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        sr_ratio: int,
        drop_path_rate: float,
        norm_cfg: dict,
    ):
        super().__init__()
        drop_path = dict(type='DropPath', drop_prob=drop_path_rate)
        self.norm1 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.attn = SpatialReductionAttention(embed_dims, num_heads, sr_ratio, norm_cfg)
        self.drop_path = build_dropout(drop_path)
        self.norm2 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.ffn = FFN(embed_dims, feedforward_channels, act_cfg=dict(type='GELU'), dropout_layer=drop_path)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), hw_shape))
        return self.ffn(self.norm2(x), identity=x)


class PVTStage(BaseModule):
    """Patch embedding, position embedding and blocks of one resolution.

    Args:
        in_channels: Channels of the incoming map.
        embed_dims: Channels of the tokens.
        patch_size: Side of a patch in cells of the incoming map.
        hw_shape: Token grid that the position embedding is made for.
        num_extra_tokens: Positions before those of the grid, for a class token.
        drop_path_rates: One for each block.
        **block: Further arguments of :class:`PVTBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        patch_size: int,
        hw_shape: tuple[int, int],
        num_extra_tokens: int,
        drop_path_rates: Sequence[float],
        norm_cfg: dict,
        **block: Any,
    ):
        super().__init__()
        self.hw_shape = hw_shape
        self.num_extra_tokens = num_extra_tokens
        self.patch_embed = PatchEmbed(
            in_channels, embed_dims, kernel_size=patch_size, stride=patch_size, norm_cfg=norm_cfg
        )
        self.pos_embed = nn.Parameter(torch.zeros(1, num_extra_tokens + math.prod(hw_shape), embed_dims))
        trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = ModuleList(
            PVTBlock(embed_dims, drop_path_rate=rate, norm_cfg=norm_cfg, **block) for rate in drop_path_rates
        )

    def forward(self, x: Tensor, cls_token: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Map of this stage ``(N, C, h, w)``, and its class token ``(N, C)`` where one is given."""
        x, hw_shape = self.patch_embed(x)
        pos_embed = resize_pos_embed(self.pos_embed, self.hw_shape, hw_shape, 'bilinear', self.num_extra_tokens)
        if cls_token is not None:
            x = torch.cat([cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + pos_embed
        for block in self.blocks:
            x = block(x, hw_shape)
        tokens = x[:, self.num_extra_tokens :].transpose(1, 2).unflatten(2, hw_shape).contiguous()
        return tokens, None if cls_token is None else x[:, 0]
