# Copyright (c) MMMixPro contributors.
"""What tells the salient patches of an image from the others, for :class:`OcclusionTestLoop`."""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from mmpretrain.registry import MODELS, TASK_UTILS
from mmpretrain.structures import DataSample
from torch import Tensor

from mmmixpro.attention import ClassAttention, ClassRow, class_attention_of
from mmmixpro.utils.checkpoint import load_strictly
from mmmixpro.utils.convert_file import CONVERTERS
from mmmixpro.utils.weights import load_weights

OTHERS = (
    "Others tell it too: dict(type='GuideAttentionSaliency', checkpoint=..., model=...) by DINO, "
    "dict(type='StoredMapSaliency') by maps of tools/precompute_maps.py; kinds=['random'] needs none."
)


class Saliency(metaclass=ABCMeta):
    """A map of each image, larger where it is more salient."""

    @abstractmethod
    def prepare(self, model: Any) -> None:
        """Get ready, or raise what would fail later.

        Args:
            model: The classifier under test, on its device.
        """

    @abstractmethod
    def __call__(self, images: Tensor, data_samples: list[DataSample]) -> Tensor:
        """The maps.

        Args:
            images: ``(N, C, H, W)`` uint8, as the pipeline leaves them.
            data_samples: Their N samples.

        Returns:
            Tensor: ``(N, h, w)`` over the whole images, on their device.
        """

    @abstractmethod
    def describe(self) -> str:
        """What tells, in words."""


class AttentionSaliency(Saliency):
    """The class attention of the last block of a network, that sees the images as its own data preprocessor gives them.

    Args:
        head: Index of the head to take, None for the mean over all.

    Raises:
        ValueError: When used, if the network has no class attention, or none over a grid on the whole image, or no
            such head.
    """

    model: Any

    def __init__(self, head: int | None = None):
        self.head = head

    @torch.no_grad()
    def __call__(self, images: Tensor, data_samples: list[DataSample]) -> Tensor:
        inputs = self.model.data_preprocessor(dict(inputs=images))['inputs']
        provider = class_attention_of(self.model.backbone)
        height, width = images.shape[-2:]
        if inputs.shape[-2:] != images.shape[-2:] or height % provider.token_stride or width % provider.token_stride:
            raise ValueError(
                f'Expected images that divide into tokens of {provider.token_stride} px, got {height} x {width} px, of '
                f'which the data preprocessor makes {inputs.size(2)} x {inputs.size(3)}: attention to padding is not '
                f'salience. Crop or resize the images. {OTHERS}'
            )
        if self.head is not None:
            one_head(provider, self.head)
        with provider.tap((height, width)) as tap:
            self.model.backbone(inputs)
        assert tap.map is not None
        return tap.map

    def describe_head(self) -> str:
        return 'mean over heads' if self.head is None else f'head {self.head}'


def check_attention(model: Any, name: str) -> None:
    """Raise ValueError, with what else tells what is salient, if a model has no class attention."""
    try:
        class_attention_of(getattr(model, 'backbone', model))
    except ValueError as error:
        raise ValueError(f'{name} cannot tell what is salient: {error} {OTHERS}') from error


def one_head(provider: ClassAttention, head: int) -> None:
    """Make a provider read one head alone.

    Raises:
        ValueError: If it does not read heads; and, at the forward pass, if there is no such head.
    """
    if not isinstance(provider, ClassRow):
        raise ValueError(f'{type(provider).__name__} does not tell heads apart. Set head=None, the mean over all.')
    watch = provider.watch

    def take(seen: Tensor) -> Tensor:
        if not 0 <= head < seen.size(1):
            raise ValueError(f'head={head}, but attention is given by {seen.size(1)}: set 0 to {seen.size(1) - 1}.')
        return seen[:, head : head + 1]

    def watch_one(record: Callable[..., None]) -> AbstractContextManager[None]:
        return watch(lambda *seen: record(*(take(tensor) for tensor in seen)))

    provider.watch = watch_one  # type: ignore[method-assign]


@TASK_UTILS.register_module()
class OwnAttentionSaliency(AttentionSaliency):
    """The class attention of the model under test, for the images before anything is hidden.

    Each model then loses what it looks at itself: figures of two models are not of the same images.

    Args:
        head: Index of the head to take, None for the mean over all.
    """

    def prepare(self, model: Any) -> None:
        check_attention(model, 'The model under test')
        self.model = model

    def describe(self) -> str:
        return f'class attention of the model under test ({type(self.model.backbone).__name__}, {self.describe_head()})'


@TASK_UTILS.register_module()
class GuideAttentionSaliency(AttentionSaliency):
    """The class attention of another network: DINO's ViT-S in Naseer et al. (https://arxiv.org/abs/2105.10497).

    Their released code takes head 1 of ``dino_deitsmall16_pretrain.pth``, and hides patches up to a share of its
    attention; here it is a share of the patches, as the axis of Fig. 3 says. Both networks see the channels in one
    order: in RGB, whether the model under test turns them (files, in BGR) or they come so (CIFAR).

    Args:
        checkpoint: Weights of the backbone, as the official file (and timm) or as a checkpoint of mmpretrain has them;
            those of a head are ignored.
        model: Config of an ``ImageClassifier`` with ``backbone`` and ``data_preprocessor``, without head; ``to_rgb`` is
            that of the model under test.
        head: Index of the head to take, None for the mean over all.

    Raises:
        FileNotFoundError: Before the first batch, if there is no checkpoint.
        ValueError: Before the first batch, if it does not fit.
    """

    def __init__(self, checkpoint: str, model: dict, head: int | None = None):
        super().__init__(head)
        self.checkpoint = checkpoint
        self.cfg = model

    def prepare(self, model: Any) -> None:
        guide: Any = MODELS.build(deepcopy(self.cfg))  # which building changes
        check_attention(guide, 'The model of GuideAttentionSaliency')
        advice = f'Set saliency.checkpoint, for the configs of MMMixPro by the variable DINO_CHECKPOINT. {OTHERS}'
        weights = load_weights(self.checkpoint, advice=advice)
        name = type(guide.backbone).__name__
        if not any(key.startswith('backbone.') for key in weights) and name in CONVERTERS:
            weights = CONVERTERS[name].to_ours(weights)
        load_strictly(guide, weights, f'{self.checkpoint} into {name}', advice, allow_unexpected=['head.*'])
        guide.data_preprocessor.to_rgb = model.data_preprocessor.to_rgb
        guide.requires_grad_(False)
        guide.eval()
        self.model = guide.to(next(model.parameters()).device)

    def describe(self) -> str:
        name = type(self.model.backbone).__name__
        return f'class attention of {self.checkpoint} ({name}, {self.describe_head()})'


@TASK_UTILS.register_module()
class StoredMapSaliency(Saliency):
    """Maps that come with the images, such as those of ``tools/precompute_maps.py``.

    Example:
        >>> test_pipeline = [
        ...     dict(type='LoadImageFromFile'),
        ...     dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
        ...     dict(type='TrackedCenterCrop', crop_size=224),
        ...     dict(type='LoadContentMap', path='data/val_maps', size=14),
        ...     dict(type='PackInputs', algorithm_keys=['content']),
        ... ]

    The tool computes the maps of ``train_dataloader``: point that at the test images, for ImageNet
    ``--cfg-options train_dataloader.dataset.split=val``.

    Args:
        key: Name of the map in the samples, ``(h, w)``.

    Raises:
        ValueError: At the first batch, if a sample has no map.
    """

    def __init__(self, key: str = 'content'):
        self.key = key

    def prepare(self, model: Any) -> None:
        pass

    def __call__(self, images: Tensor, data_samples: list[DataSample]) -> Tensor:
        missing = sum(self.key not in sample for sample in data_samples)
        if missing:
            raise ValueError(
                f'Expected a map with each sample, as the field {self.key}; {missing} of {len(data_samples)} have '
                "none. Put dict(type='TrackedCenterCrop', ...) and dict(type='LoadContentMap', path=...) into the "
                f"pipeline of test_dataloader, and set PackInputs' algorithm_keys=[{self.key!r}]. {OTHERS}"
            )
        maps = np.stack([np.asarray(sample.get(self.key), np.float32) for sample in data_samples])
        return torch.from_numpy(maps).to(images.device)

    def describe(self) -> str:
        return f'precomputed maps (field {self.key} of the samples)'
