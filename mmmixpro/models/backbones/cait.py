# Copyright (c) MMMixPro contributors.
import math
from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.logging import print_log
from mmengine.model import ModuleList
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import resize_pos_embed, to_2tuple
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmmixpro.attention import ClassBlock, register_class_attention

from .cait_layers import ClassAttentionBlock, ScaledBlock, TalkingHeadAttention

# Sizes of table 3, and M48, released too. Of LayerScale, the paper fixes 1e-5 for 24 layers and 1e-6 for more; the
# released XXS36 has 1e-5.
ARCH_ZOO = {
    name: dict(
        embed_dims=embed_dims,
        num_layers=num_layers,
        num_heads=embed_dims // 48,
        feedforward_channels=4 * embed_dims,
        layer_scale_init_value=layer_scale_init_value,
    )
    for name, embed_dims, num_layers, layer_scale_init_value in (
        ('xxs24', 192, 24, 1e-5),
        ('xxs36', 192, 36, 1e-5),
        ('xs24', 288, 24, 1e-5),
        ('xs36', 288, 36, 1e-6),
        ('s24', 384, 24, 1e-5),
        ('s36', 384, 36, 1e-6),
        ('s48', 384, 48, 1e-6),
        ('m24', 768, 24, 1e-5),
        ('m36', 768, 36, 1e-6),
        ('m48', 768, 48, 1e-6),
    )
}


@MODELS.register_module()
class CaiT(BaseBackbone):
    """Class-Attention in Image Transformers.

    `Going deeper with Image Transformers <https://arxiv.org/abs/2103.17239>`_. Patches attend to each
    other in ``layers``, with talking heads; then the class token enters and reads them in
    ``ca_layers``. Both have LayerScale, and drop path, of one rate for all, only the former. Layers are
    counted through: those of the patches come first.

    Args:
        arch: ``'xxs24'``, ``'xxs36'``, ``'xs24'``, ``'xs36'``, ``'s24'``, ``'s36'``, ``'s48'``, ``'m24'``,
            ``'m36'``, ``'m48'``, or a dict of ``embed_dims``, ``num_layers`` (before the class token),
            ``num_heads`` and ``feedforward_channels``; its ``layer_scale_init_value``, if not given, goes by the number
            of layers as the paper has it: 0.1 up to 18, 1e-5 up to 24, 1e-6 beyond.
        img_size: Side or ``(H, W)`` in pixels that position embeddings are made for. Other sizes
            work, with resized embeddings.
        patch_size: Patch side in pixels.
        in_channels: Channels of the image.
        cls_attn_layers: Number of class attention layers.
        out_type: ``'cls_token'`` returns ``(N, C)``, ``'raw'`` all tokens, the class token first if it
            is there yet, ``(N, 1 + h * w, C)``, ``'featmap'`` the map ``(N, C, h, w)``, ``'avg_featmap'``
            its mean ``(N, C)``. For the last two there are neither class token nor ``ca_layers``.
        out_indices: Layers to return, one or several; negative ones count from the last.
        drop_path_rate: Chance in [0, 1) that a sample skips a branch.
        frozen_stages: 0 freezes the embeddings of the patches, n also the first n layers; -1 freezes
            none. What is frozen is kept in eval mode.
        interpolate_mode: How position embeddings are resized.
        norm_cfg: Config of the norms.
        init_cfg: Config of the initialisation.

    Raises:
        ValueError: If an argument is out of its range.
    """

    arch_zoo = ARCH_ZOO
    OUT_TYPES = ('cls_token', 'raw', 'featmap', 'avg_featmap')

    def __init__(
        self,
        arch: str | dict = 'xxs24',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        cls_attn_layers: int = 2,
        out_type: str = 'cls_token',
        out_indices: int | Sequence[int] = -1,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        interpolate_mode: str = 'bicubic',
        norm_cfg: dict = dict(type='LN', eps=1e-6),
        init_cfg: dict | list | None = [
            dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ):
        super().__init__(init_cfg)
        settings = self._settings(arch)
        if out_type not in self.OUT_TYPES:
            raise ValueError(f'out_type must be one of {self.OUT_TYPES}, got {out_type!r}.')
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate must be in [0, 1), got {drop_path_rate}.')
        if cls_attn_layers < 1:
            raise ValueError(f'cls_attn_layers must be at least 1, got {cls_attn_layers}.')
        size = to_2tuple(img_size)
        if any(side % patch_size for side in size):
            raise ValueError(f'img_size={img_size} must be a multiple of patch_size, {patch_size} px.')
        self.out_type = out_type
        self.with_cls_token = out_type in ('cls_token', 'raw')
        self.patch_size = patch_size
        self.hw_shape = (size[0] // patch_size, size[1] // patch_size)
        self.interpolate_mode = interpolate_mode
        self.frozen_stages = frozen_stages

        dims = settings['embed_dims']
        self.patch_embed = PatchEmbed(in_channels, dims, kernel_size=patch_size, stride=patch_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, math.prod(self.hw_shape), dims))
        block: dict = dict(
            feedforward_channels=settings['feedforward_channels'],
            layer_scale_init_value=settings['layer_scale_init_value'],
            norm_cfg=norm_cfg,
        )
        self.layers = ModuleList(
            ScaledBlock(
                TalkingHeadAttention(dims, settings['num_heads']), dims, drop_path_rate=float(drop_path_rate), **block
            )
            for _ in range(settings['num_layers'])
        )
        self.ca_layers = ModuleList(
            ClassAttentionBlock(dims, settings['num_heads'], drop_path_rate=0.0, **block)
            for _ in range(cls_attn_layers if self.with_cls_token else 0)
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims)) if self.with_cls_token else None
        self._draw_embeddings()
        self.norm = build_norm_layer(norm_cfg, dims)[1]
        self.out_indices = self._indices(out_indices)
        if not -1 <= frozen_stages <= self.num_layers:
            raise ValueError(f'frozen_stages must be from -1 to {self.num_layers}, the layers, got {frozen_stages}.')
        self._register_load_state_dict_pre_hook(self._prepare_pos_embed)
        self._freeze_stages()

    @classmethod
    def _settings(cls, arch: str | dict) -> dict:
        if isinstance(arch, str) and arch.lower() in cls.arch_zoo:
            return cls.arch_zoo[arch.lower()]
        needed = {'embed_dims', 'num_layers', 'num_heads', 'feedforward_channels'}
        if not isinstance(arch, dict) or set(arch) - {'layer_scale_init_value'} != needed:
            raise ValueError(
                f'arch must be one of {sorted(cls.arch_zoo)} or a dict with {sorted(needed)}, and '
                f"'layer_scale_init_value' if wanted, got {arch!r}."
            )
        if arch['embed_dims'] % arch['num_heads']:
            raise ValueError(f'arch: embed_dims={arch["embed_dims"]} must divide into num_heads={arch["num_heads"]}.')
        depth = arch['num_layers']
        return dict(dict(layer_scale_init_value=0.1 if depth <= 18 else 1e-5 if depth <= 24 else 1e-6), **arch)

    def _indices(self, out_indices: int | Sequence[int]) -> tuple[int, ...]:
        total = self.num_layers
        given = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        indices = tuple(index + total if index < 0 else index for index in given)
        # A class token is there from the first of the class attention layers on.
        first = len(self.layers) if self.out_type == 'cls_token' else 0
        if not indices or not all(first <= index < total for index in indices):
            raise ValueError(
                f'out_indices={out_indices} must be layers from {first} to {total - 1} for out_type={self.out_type!r}, '
                'or negative, counted from the last.'
            )
        return indices

    @property
    def num_layers(self) -> int:
        return len(self.layers) + len(self.ca_layers)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of a batch of images ``(N, C, H, W)``, a tensor for each of ``out_indices``."""
        x, hw_shape = self.patch_embed(x)
        x = x + resize_pos_embed(self.pos_embed, self.hw_shape, hw_shape, self.interpolate_mode, 0)
        outs = []
        for i, layer in enumerate([*self.layers, *self.ca_layers]):
            if i == len(self.layers):
                assert self.cls_token is not None
                x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
            x = layer(x)
            if i in self.out_indices:
                out = x[:, 0] if self.out_type == 'cls_token' else x
                out = self.norm(out) if i == self.num_layers - 1 else out
                outs.append(self._format_patches(out, hw_shape) if not self.with_cls_token else out)
        return tuple(outs)

    def _format_patches(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        if self.out_type == 'avg_featmap':
            return x.mean(1)
        return x.transpose(1, 2).unflatten(2, hw_shape).contiguous()

    def init_weights(self) -> None:
        super().init_weights()
        if not (isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained'):
            self._draw_embeddings()

    def _draw_embeddings(self) -> None:
        trunc_normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            trunc_normal_(self.cls_token, std=0.02)

    def train(self, mode: bool = True) -> 'CaiT':
        super().train(mode)
        self._freeze_stages()
        return self

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen: list[nn.Module] = [self.patch_embed, *[*self.layers, *self.ca_layers][: self.frozen_stages]]
        if self.frozen_stages >= self.num_layers:
            frozen.append(self.norm)
        for module in frozen:
            module.eval()
            module.requires_grad_(False)
        self.pos_embed.requires_grad_(False)
        if self.cls_token is not None and self.frozen_stages > len(self.layers):
            self.cls_token.requires_grad_(False)

    def _prepare_pos_embed(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Fit the position embeddings of a checkpoint to this image size."""
        name = f'{prefix}pos_embed'
        if name not in state_dict or state_dict[name].size(1) == self.pos_embed.size(1):
            return
        # Grids of another size than ours are taken to be square, as mmpretrain does.
        tokens = state_dict[name].size(1)
        shape = to_2tuple(math.isqrt(tokens))
        if math.prod(shape) != tokens:
            raise ValueError(
                f'{name} of the checkpoint has {tokens} positions, which are no square: it is not known how to resize '
                f'them to {self.hw_shape}. Set img_size to that of the checkpoint.'
            )
        print_log(f'Resize {name} from {shape} to {self.hw_shape} positions.', 'current')
        state_dict[name] = resize_pos_embed(state_dict[name], shape, self.hw_shape, self.interpolate_mode, 0)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning rates: 0 for the embeddings of the patches, then
        one for each layer; the class token is as deep as the layer after which it enters.

        Returns:
            tuple[int, int]: Depth, and the number of depths.
        """
        total = self.num_layers + 2
        parts = param_name.removeprefix(prefix).split('.')
        before = dict(patch_embed=0, pos_embed=0, layers=1, cls_token=len(self.layers), ca_layers=len(self.layers) + 1)
        if not param_name.startswith(prefix) or parts[0] not in before:
            return total - 1, total
        return before[parts[0]] + (int(parts[1]) if parts[0] in ('layers', 'ca_layers') else 0), total


@register_class_attention(CaiT)
class CaiTClassAttention(ClassBlock):
    """Last class attention layer, which has no talking heads."""

    def __init__(self, backbone: CaiT):
        super().__init__(backbone, last=backbone.num_layers - 1)
        self.attention = backbone.ca_layers[-1].attn
        self.token_stride = backbone.patch_size
