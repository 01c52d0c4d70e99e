# Copyright (c) MMMixPro contributors.
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models import SwinTransformer
from mmpretrain.models.utils import resize_pos_embed
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmmixpro.attention import ClassBlock, register_class_attention

from .cait_layers import ClassAttentionBlock


class ClassTokenBlock(ClassAttentionBlock):
    """Block where the class token enters, and reads all patches; arguments as in :class:`ClassAttentionBlock`."""

    def __init__(self, embed_dims: int, **kwargs: Any):
        super().__init__(embed_dims, **kwargs)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x: Tensor, hw_shape: tuple[int, int] | None = None) -> Tensor:
        """The patches ``(N, L, C)`` behind the class token, ``(N, 1 + L, C)``; arguments as Swin's blocks have."""
        return super().forward(torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1))


def _resized(table: Tensor, length: int, num_heads: int) -> Tensor:
    """Biases of relative positions ``(side ** 2, num_heads)``, of ``length`` positions; as it is, if of other heads."""
    side = math.isqrt(len(table)) if table.ndim else 0
    if tuple(table.shape) != (side**2, num_heads) or side**2 == length:
        return table
    grid = table.float().T.unflatten(1, (side, side))[None]
    resized = F.interpolate(grid, size=(math.isqrt(length),) * 2, mode='bicubic')
    return resized[0].flatten(1).T.to(table.dtype)


@MODELS.register_module()
class CASwin(SwinTransformer):
    """Swin whose last block is a class attention block, without more parameters.

    `TransMix <https://arxiv.org/abs/2111.09833>`_, section 4.1, which makes
    `Swin <https://arxiv.org/abs/2103.14030>`_ tell where it looks. Its code was not released; here the
    block has the width, heads and FFN of the Swin block that it replaces, norms in front, no
    LayerScale and no relative positions, and a learned class token, which the final norm and the
    head are given in place of the mean of all patches.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, ``'large'`` (or ``'t'``, ``'s'``, ...), or a dict as
            ``SwinTransformer`` takes it; ``depths`` count the class attention block.
        out_type: ``'cls_token'`` returns one ``(N, C)`` feature, ``'raw'`` all tokens of the last stage, the class
            token first, ``(N, 1 + h * w, C)``, ``'featmap'`` the maps, as ``SwinTransformer`` does; then
            there is neither class token nor its block.
        out_indices: Stages whose maps ``'featmap'`` returns, one or several; negative ones count from the
            last, which is the only one for the others.
        frozen_stages: n freezes the embedding of the patches and the stages up to n; -1 freezes none. What is
            frozen is kept in eval mode.
        drop_path_rate: Chance in [0, 1) that a sample skips a branch, rising linearly from 0 at the
            first block to this at the last.
        norm_cfg: Config of the norms of what is returned, None for none, and of the class attention block.
        init_cfg: Config of the initialisation.
        **kwargs: Further arguments of ``SwinTransformer``.

    Raises:
        ValueError: If ``arch``, ``out_type``, ``out_indices`` or ``frozen_stages`` is out of its range.
    """

    OUT_TYPES = ('cls_token', 'raw', 'featmap')

    def __init__(
        self,
        arch: str | dict = 'tiny',
        out_type: str = 'cls_token',
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        drop_path_rate: float = 0.1,
        norm_cfg: dict | None = dict(type='LN'),
        init_cfg: dict | list | None = [
            dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
        **kwargs: Any,
    ):
        if out_type not in self.OUT_TYPES:
            raise ValueError(f'out_type must be one of {self.OUT_TYPES}, got {out_type!r}.')
        needed = {'embed_dims', 'depths', 'num_heads'}
        if arch.lower() not in self.arch_zoo if isinstance(arch, str) else set(arch) != needed:
            raise ValueError(
                f'arch must be one of {sorted(self.arch_zoo)} or a dict with {sorted(needed)}, got {arch!r}.'
            )
        num_layers = len(arch['depths']) if isinstance(arch, dict) else 4
        given = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        indices = tuple(index + num_layers if index < 0 else index for index in given)
        possible = range(num_layers) if out_type == 'featmap' else range(num_layers - 1, num_layers)
        if not indices or not all(index in possible for index in indices):
            raise ValueError(
                f'out_indices={out_indices} must be among {list(possible)} for out_type={out_type!r}, or negative, '
                'counted from the last stage, which alone has a class token.'
            )
        if not -1 <= frozen_stages < num_layers:
            raise ValueError(f'frozen_stages must be from -1 to {num_layers - 1}, the last stage, got {frozen_stages}.')
        super().__init__(
            arch,
            out_indices=indices,
            frozen_stages=frozen_stages,
            drop_path_rate=drop_path_rate,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.out_type = out_type
        self.with_cls_token = out_type != 'featmap'
        blocks = self.stages[-1].blocks
        replaced = blocks.pop(-1)
        if self.with_cls_token:
            blocks.append(
                ClassTokenBlock(
                    self.num_features[-1],
                    num_heads=self.num_heads[-1],
                    feedforward_channels=replaced.ffn.feedforward_channels,
                    layer_scale_init_value=0.0,
                    drop_path_rate=drop_path_rate,
                    norm_cfg=norm_cfg or dict(type='LN'),
                )
            )
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of a batch of images ``(N, C, H, W)``, see ``out_type``."""
        if not self.with_cls_token:
            return super().forward(x)
        x, hw_shape = self.patch_embed(x)
        if self.use_abs_pos_embed:
            x = x + resize_pos_embed(self.absolute_pos_embed, self.patch_resolution, hw_shape, self.interpolate_mode, 0)
        x = self.drop_after_pos(x)
        for stage in self.stages:
            x, hw_shape = stage(x, hw_shape)
        norm = getattr(self, f'norm{self.num_layers - 1}')
        return (norm(x),) if self.out_type == 'raw' else (norm(x[:, 0]),)

    def _prepare_relative_position_bias_table(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Resize the tables of other windows on loading; mmpretrain's own way needs a SciPy before 1.14."""
        own = self.state_dict()
        for index in (name for name in own if name.endswith('relative_position_index')):
            name = index.replace('index', 'bias_table')
            table = state_dict.get(prefix + name)
            if isinstance(table, Tensor):
                # Computed, not learned, and of the windows here.
                state_dict[prefix + index] = own[index]
                state_dict[prefix + name] = _resized(table, *own[name].shape)

    def train(self, mode: bool = True) -> 'CASwin':
        super().train(mode)
        return self


@register_class_attention(CASwin)
class CASwinClassAttention(ClassBlock):
    """Last block, which looks at all patches of the last stage at once."""

    def __init__(self, backbone: CASwin):
        super().__init__(backbone, last=backbone.num_layers - 1)
        self.attention = backbone.stages[-1].blocks[-1].attn
        self.token_stride = backbone.patch_embed.projection.stride[0] * 2 ** (backbone.num_layers - 1)
