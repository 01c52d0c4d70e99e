# Copyright (c) MMMixPro contributors.
"""Building blocks of :class:`~mmmixpro.models.CaiT`, one of them of :class:`~mmmixpro.models.CASwin` too."""

from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.drop import build_dropout
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from mmpretrain.models.utils import LayerScale
from torch import Tensor, nn
from torch.nn import functional as F


class HeadMixer(nn.Linear):
    """Linear layer across the heads of an attention ``(N, heads, L, L)``."""

    def forward(self, attention: Tensor) -> Tensor:
        # The heads stay where they are: a linear layer would have the attention moved around, twice.
        weight = self.weight.expand(len(attention), -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, attention.flatten(2)).unflatten(2, attention.shape[2:])


class TalkingHeadAttention(BaseModule):
    """Self-attention whose heads are mixed before and after the softmax.

    `Talking-Heads Attention <https://arxiv.org/abs/2003.02436>`_. Fused attention knows nothing of the
    kind, so the attention is computed in full.

    Args:
        embed_dims: Channels.
        num_heads: Heads.
    """

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (embed_dims // num_heads) ** -0.5
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.mix_logits = HeadMixer(num_heads, num_heads)
        self.mix_weights = HeadMixer(num_heads, num_heads)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Attend; ``(N, L, C)`` to the same."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        logits = self.mix_logits(query * self.scale @ key.transpose(-2, -1))
        out = self.mix_weights(logits.softmax(-1)) @ value
        return self.proj(out.transpose(1, 2).flatten(2))


class ClassTokenAttention(BaseModule):
    """Multi-head attention whose only query is the class token (CaiT, section 3).

    Args:
        embed_dims: Channels.
        num_heads: Heads.
    """

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(embed_dims, embed_dims)
        self.k = nn.Linear(embed_dims, embed_dims)
        self.v = nn.Linear(embed_dims, embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        # Held as an attribute, as in mmpretrain's MultiheadAttention, for the class attention.
        self.scaled_dot_product_attention = F.scaled_dot_product_attention

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: ``(N, 1 + L, C)``, class token first.

        Returns:
            Tensor: ``(N, 1, C)``.
        """
        query, key, value = (
            layer(tokens).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.q, x[:, :1]), (self.k, x), (self.v, x))
        )
        out = self.scaled_dot_product_attention(query, key, value)
        return self.proj(out.transpose(1, 2).flatten(2))


class ScaledBlock(BaseModule):
    """Attention and FFN as residual branches, each scaled by LayerScale and skipped by drop path.

    Args:
        attn: The attention.
        embed_dims: Channels.
        feedforward_channels: Hidden channels of the FFN.
        layer_scale_init_value: First value of LayerScale; 0 leaves it out.
        drop_path_rate: Chance in [0, 1) that a sample skips a branch.
        norm_cfg: Config of the norms.
    """

    def __init__(
        self,
        attn: nn.Module,
        embed_dims: int,
        feedforward_channels: int,
        layer_scale_init_value: float,
        drop_path_rate: float,
        norm_cfg: dict,
    ):
        super().__init__()
        drop_path = dict(type='DropPath', drop_prob=drop_path_rate)
        self.norm1 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.attn = attn
        self.gamma1 = LayerScale(embed_dims, layer_scale_init_value) if layer_scale_init_value else nn.Identity()
        self.drop_path = build_dropout(drop_path)
        self.norm2 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.ffn = FFN(
            embed_dims,
            feedforward_channels,
            act_cfg=dict(type='GELU'),
            dropout_layer=drop_path,
            layer_scale_init_value=layer_scale_init_value,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine all tokens ``(N, L, C)``."""
        x = x + self.drop_path(self.gamma1(self.attn(self.norm1(x))))
        return self.ffn(self.norm2(x), identity=x)


class ClassAttentionBlock(ScaledBlock):
    """Block in which the class token reads the patches, which stay as they are.

    Arguments as in :class:`ScaledBlock`, with ``num_heads`` for ``attn``.
    """

    def __init__(self, embed_dims: int, num_heads: int, **kwargs: Any):
        super().__init__(ClassTokenAttention(embed_dims, num_heads), embed_dims, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """Refine the class token, the first of the tokens ``(N, 1 + L, C)``."""
        cls_token = x[:, :1] + self.drop_path(self.gamma1(self.attn(self.norm1(x))))
        cls_token = self.ffn(self.norm2(cls_token), identity=cls_token)
        return torch.cat([cls_token, x[:, 1:]], dim=1)
