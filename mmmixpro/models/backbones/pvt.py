# Copyright (c) MMMixPro contributors.
import math
from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import ModuleList
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import resize_pos_embed, to_2tuple
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmmixpro.attention import RawTokens, register_class_attention

from .pvt_layers import PVTStage

WIDTHS = dict(embed_dims=[64, 128, 320, 512], num_heads=[1, 2, 5, 8], mlp_ratios=[8, 8, 4, 4], sr_ratios=[8, 4, 2, 1])
ARCH_ZOO = {
    name: dict(num_layers=num_layers, **WIDTHS)
    for names, num_layers in (
        (('t', 'tiny'), [2, 2, 2, 2]),
        (('s', 'small'), [3, 4, 6, 3]),
        (('m', 'medium'), [3, 4, 18, 3]),
        (('l', 'large'), [3, 8, 27, 3]),
    )
    for name in names
}


@MODELS.register_module()
class PVT(BaseBackbone):
    """Pyramid Vision Transformer, version 1.

    `Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without Convolutions
    <https://arxiv.org/abs/2102.12122>`_. One class serves classification, where a class token
    enters stage 4, and dense prediction, where there is none: a classification checkpoint loads
    into a dense model, which drops the class token, its position and the final norm.

    As in mmdet, one ``norm_cfg`` serves all norms; the released code leaves those of the patch
    embeddings and of the pooled keys at an epsilon of 1e-5.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'medium'``, ``'large'`` (or ``'t'``, ``'s'``, ...), or a dict
            of ``embed_dims``, ``num_layers``, ``num_heads``, ``mlp_ratios`` and ``sr_ratios``, a value
            for each of the four stages.
        img_size: Side or ``(H, W)`` in pixels that position embeddings are made for. Other sizes
            work, with resized embeddings.
        in_channels: Channels of the image.
        patch_sizes: Patch side of each stage, in cells of the map before it.
        out_type: ``'cls_token'`` returns one ``(N, C)`` feature, ``'raw'`` all tokens of the last stage, the class
            token first, ``(N, 1 + h * w, C)``, ``'featmap'`` the maps.
        out_indices: Stages whose maps ``'featmap'`` returns.
        drop_path_rate: Chance in [0, 1) that a sample skips a branch, rising linearly from 0 at the
            first block to this at the last.
        frozen_stages: Stages below this index are frozen, and kept in eval mode; -1 freezes none.
        norm_cfg: Config of the norms.
        init_cfg: Config of the initialisation.

    Raises:
        ValueError: If ``arch``, ``out_type`` or ``img_size`` is out of its range.
    """

    arch_zoo = ARCH_ZOO
    OUT_TYPES = ('cls_token', 'raw', 'featmap')

    def __init__(
        self,
        arch: str | dict = 'small',
        img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        patch_sizes: Sequence[int] = (4, 2, 2, 2),
        out_type: str = 'cls_token',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.1,
        frozen_stages: int = -1,
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
        self.out_type = out_type
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.stride = math.prod(patch_sizes)
        size = to_2tuple(img_size)
        if any(side % self.stride for side in size):
            raise ValueError(
                f'img_size={img_size} must be a multiple of the stride of the last stage, {self.stride} px.'
            )

        if out_type != 'featmap' and settings['sr_ratios'][-1] != 1:
            raise ValueError(
                f'sr_ratios={settings["sr_ratios"]}: the last must be 1 for out_type={out_type!r}, for a class token '
                'cannot be pooled with the map.'
            )
        dims, layers = settings['embed_dims'], settings['num_layers']
        rates = torch.linspace(0, drop_path_rate, sum(layers)).tolist()
        with_cls_token = out_type != 'featmap'
        self.stages = ModuleList()
        for i, depth in enumerate(layers):
            size = (size[0] // patch_sizes[i], size[1] // patch_sizes[i])
            self.stages.append(
                PVTStage(
                    in_channels=dims[i - 1] if i else in_channels,
                    embed_dims=dims[i],
                    patch_size=patch_sizes[i],
                    hw_shape=size,
                    num_extra_tokens=int(with_cls_token and i == len(layers) - 1),
                    drop_path_rates=rates[sum(layers[:i]) :][:depth],
                    norm_cfg=norm_cfg,
                    num_heads=settings['num_heads'][i],
                    feedforward_channels=dims[i] * settings['mlp_ratios'][i],
                    sr_ratio=settings['sr_ratios'][i],
                )
            )

        self.cls_token: nn.Parameter | None = None
        if with_cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dims[-1]))
            trunc_normal_(self.cls_token, std=0.02)
            self.norm = build_norm_layer(norm_cfg, dims[-1])[1]
        self._register_load_state_dict_pre_hook(self._prepare_pos_embed)
        self._freeze_stages()

    @classmethod
    def _settings(cls, arch: str | dict) -> dict:
        if isinstance(arch, str) and arch.lower() in cls.arch_zoo:
            return cls.arch_zoo[arch.lower()]
        needed = {'num_layers', *WIDTHS}
        if isinstance(arch, dict) and needed <= set(arch):
            return arch
        raise ValueError(f'arch must be one of {sorted(cls.arch_zoo)} or a dict with {sorted(needed)}, got {arch!r}.')

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of a batch of images ``(N, C, H, W)``, see ``out_type``."""
        maps = []
        cls_feature = None
        for i, stage in enumerate(self.stages):
            x, cls_feature = stage(x, self.cls_token if i == len(self.stages) - 1 else None)
            maps.append(x)
        if cls_feature is None:
            return tuple(maps[i] for i in self.out_indices)
        if self.out_type == 'raw':
            tokens = torch.cat([cls_feature[:, None], x.flatten(2).transpose(1, 2)], dim=1)
            return (self.norm(tokens),)
        return (self.norm(cls_feature),)

    def train(self, mode: bool = True) -> 'PVT':
        super().train(mode)
        self._freeze_stages()
        return self

    def _freeze_stages(self) -> None:
        for stage in self.stages[: max(self.frozen_stages, 0)]:
            stage.eval()
            stage.requires_grad_(False)

    def _prepare_pos_embed(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Fit position embeddings of a checkpoint to this image size and to this class token."""
        for i, stage in enumerate(self.stages):
            name = f'{prefix}stages.{i}.pos_embed'
            if name not in state_dict:
                continue
            extra = int(f'{prefix}cls_token' in state_dict and i == len(self.stages) - 1)
            cells = state_dict[name].size(1) - extra
            # Grids of another size than ours are taken to be square, as mmpretrain does.
            own = cells == math.prod(stage.hw_shape)
            shape = stage.hw_shape if own else to_2tuple(math.isqrt(cells))
            grid = resize_pos_embed(state_dict[name], shape, stage.hw_shape, 'bilinear', extra)
            # Dense models have no class token; its position goes with it.
            state_dict[name] = grid[:, extra - min(extra, stage.num_extra_tokens) :]

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning rates: 0 for the embeddings of stage 1, then
        one for each block.

        Returns:
            tuple[int, int]: Depth, and the number of depths.
        """
        depths = [len(stage.blocks) for stage in self.stages]
        last = sum(depths) + 1
        parts = param_name.removeprefix(prefix).split('.')
        if not param_name.startswith(prefix) or parts[0] != 'stages':
            return (sum(depths[:-1]) if parts[0] == 'cls_token' else last), last + 1
        before = sum(depths[: int(parts[1])])
        return before + (int(parts[3]) + 1 if parts[2] == 'blocks' else 0), last + 1


@register_class_attention(PVT)
class PVTClassAttention(RawTokens):
    """Last block of stage 4, where the class token enters."""

    def __init__(self, backbone: PVT):
        if backbone.out_type != 'cls_token':
            raise ValueError(
                "PVT gives the head a class token, and has class attention, for out_type='cls_token' only; this one "
                f'has out_type={backbone.out_type!r}.'
            )
        self.backbone = backbone
        self.attention = backbone.stages[-1].blocks[-1].attn
        self.token_stride = backbone.stride
        self.num_extra_tokens = 1
