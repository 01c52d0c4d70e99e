# Copyright (c) MMMixPro contributors.
from typing import Any

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn


class FrozenTeacher:
    """A network that guides a mixer and is never trained.

    No module, and so no part of the classifier: checkpoints, averaged copies, parameter counts, optimizers and
    DistributedDataParallel do not see it. It is built when training begins, not for evaluation, follows the images
    to their device, and is shared by copies of whatever holds it.

    Args:
        cfg: Config of a backbone of mmpretrain's with its ``init_cfg``. It sees the images as the classifier does,
            normalised likewise.

    Raises:
        ValueError: If ``cfg`` is no config, or, when used, if it has not been built, or gives no feature maps.
    """

    def __init__(self, cfg: dict):
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise ValueError(
                f"teacher must be the config of a backbone, such as dict(type='ResNet', ...); got {cfg!r}."
            )
        self.cfg = cfg
        self.module: nn.Module | None = None
        self.device: torch.device | None = None

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        return self

    def init_weights(self) -> None:
        """Build the teacher and load its weights, the same on every rank."""
        # What it draws before it loads must not change what training draws.
        with torch.random.fork_rng(devices=[]):
            module: Any = MODELS.build(self.cfg)
            if hasattr(module, 'init_weights'):
                module.init_weights()
        module.requires_grad_(False)
        module.eval()
        self.module = module
        self.device = next((param.device for param in module.parameters()), None)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The last feature maps of images ``(N, 3, H, W)``: ``(N, C, h, w)``."""
        name = self.cfg['type']
        if self.module is None:
            raise ValueError(
                f'The teacher {name} has not been built: MixClassifier does that in init_weights(), which the runner '
                "calls before training. In place of ImageClassifier set model.type='MixClassifier'; without a runner "
                'call init_weights() of the classifier, or of the mixer.'
            )
        if self.device != images.device:
            self.module.to(images.device)
            self.device = images.device
        maps = self.module(images.float())
        maps = maps[-1] if isinstance(maps, (tuple, list)) else maps
        if maps.ndim != 4:
            raise ValueError(
                f'The teacher {name} gives features of shape {tuple(maps.shape)}, expected maps (N, C, h, w). Take a '
                "backbone that gives maps: a ResNet, or a VisionTransformer with out_type='featmap'."
            )
        return maps
