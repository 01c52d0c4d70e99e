# Copyright (c) MMMixPro contributors.
from typing import Any

import torch
from mmpretrain.models import ImageClassifier
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

    kind = "a backbone, such as dict(type='ResNet', ...)"

    def __init__(self, cfg: dict):
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise ValueError(f'teacher must be the config of {self.kind}; got {cfg!r}.')
        self.cfg = cfg
        self.module: Any = None
        self.device: torch.device | None = None

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        return self

    def init_weights(self) -> None:
        """Build the teacher and load its weights, the same on every rank."""
        # What it draws before it loads must not change what training draws.
        with torch.random.fork_rng(devices=[]):
            module: Any = self._build()
            if hasattr(module, 'init_weights'):
                module.init_weights()
        module.requires_grad_(False)
        module.eval()
        self.module = module
        self.device = next((param.device for param in module.parameters()), None)

    def init_weights_for(self, mixer: object, expected: str, variable: str) -> None:
        """:meth:`init_weights`, whose error says whose teacher has no weights, and where to give them.

        Args:
            mixer: Whom the teacher guides.
            expected: What its checkpoint should be.
            variable: The environment variable that the configs read.
        """
        try:
            self.init_weights()
        except FileNotFoundError as error:
            missing, _, _ = str(error).partition('. ')
            raise FileNotFoundError(
                f'{type(mixer).__name__} has no weights for its teacher: {missing}. Expected {expected}, such as '
                'resnet50_8xb32_in1k of mmpretrain. Set teacher.init_cfg.checkpoint of this augment, for the configs '
                f'of MMMixPro by the environment variable {variable}.'
            ) from None

    def _build(self) -> nn.Module:
        return MODELS.build(self.cfg)

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
        maps = self._features(images.float())
        maps = maps[-1] if isinstance(maps, (tuple, list)) else maps
        if maps.ndim != 4:
            raise ValueError(
                f'The teacher {name} gives features of shape {tuple(maps.shape)}, expected maps (N, C, h, w). Take a '
                "backbone that gives maps: a ResNet, or a VisionTransformer with out_type='featmap'."
            )
        return maps

    def _features(self, images: Tensor) -> Any:
        return self.module(images)


class FrozenClassifier(FrozenTeacher):
    """A frozen teacher that also tells where it sees a class.

    Args:
        cfg: Config of a classifier of mmpretrain's with its ``init_cfg``, whose backbone gives feature maps. Its
            classes are those of the classifier under training.

    Raises:
        ValueError: See :class:`FrozenTeacher`; or, when built, if it is no classifier, or, when used, if it has
            another number of classes.
    """

    kind = "a classifier, such as dict(type='ImageClassifier', backbone=..., neck=..., head=...)"

    def _build(self) -> nn.Module:
        module = super()._build()
        if not isinstance(module, ImageClassifier) or not module.with_head:
            raise ValueError(f'teacher must be the config of {self.kind}; got a {self.cfg["type"]}.')
        return module

    def _features(self, images: Tensor) -> Any:
        return self.module.extract_feat(images, stage='backbone')

    @torch.no_grad()
    def activation(self, images: Tensor, scores: Tensor, top_k: int) -> Tensor:
        """The class activation map of each image's own label.

        Neck and head see each position by itself, as if it were the whole image: for global pooling and a linear
        layer these are the maps of `CAM <https://arxiv.org/abs/1512.04150>`_, with the bias.

        Args:
            images: ``(N, 3, H, W)``.
            scores: ``(N, num_classes)`` labels; of several of an image the highest counts, or the first of them.
            top_k: Positions where the label is not among so many best classes are zero.

        Returns:
            Tensor: ``(N, h, w)`` float32, the logit where it is positive, else zero.
        """
        maps = self(images)
        num, _, h, w = maps.shape
        positions = maps.permute(0, 2, 3, 1).flatten(0, 2)
        feats = self.module.neck((positions[:, :, None, None],)) if self.module.with_neck else (positions,)
        logits = self.module.head(feats).float().unflatten(0, (num, h, w))
        if logits.size(3) != scores.size(1):
            raise ValueError(
                f'The teacher {self.cfg["type"]} has {logits.size(3)} classes, the labels have {scores.size(1)}. Take '
                'a teacher that was trained on the same classes.'
            )
        label = scores.argmax(1)[:, None, None, None].expand(num, h, w, 1)
        own = logits.gather(3, label)
        among = (logits > own).sum(3) < top_k
        return own.squeeze(3).clamp(min=0) * among
