# Copyright (c) MMMixPro contributors.
"""The same pairs of images, mixed by one method after another."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmmixpro.attention import class_attention, class_attention_of
from mmmixpro.mixing import BatchMixer
from mmmixpro.models.classifiers import MixClassifier

from .mixed import mask_of, random_state, to_rgb

DRAWS = 200  # the chance that as many draws give nothing to show is nil
LEAST = 0.05  # share of either image


@dataclass(frozen=True)
class MixedImage:
    """One pair, mixed.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        mask: ``(gh, gw)``, how much of the image, and not of its partner, each cell shows.
        cell: Side of a cell in pixels.
        values: What stands below the picture: lambda and, of a trained model, alpha and the labels' weights.
        attention: ``(h, w)`` class attention of a trained model; None without one.
    """

    image: np.ndarray
    mask: np.ndarray
    cell: int
    values: dict[str, float]
    attention: np.ndarray | None


class Method:
    """A way to mix: an augment, and the classifier that labels what it mixed.

    Args:
        config: Of the method, for its augments and its labels.
        model: Of the backbone and the head, which take the place of those of ``config``.
        weights: Of the trained model; None: nothing that hangs on them is told.

    Raises:
        ValueError: If the method does not fit the model.
        FileNotFoundError: If a teacher's weights are missing.
    """

    def __init__(self, config: Config, model: Config, weights: dict[str, Tensor] | None):
        self.config = _fit(config, model)
        cfg = dict(self.config.model, data_preprocessor=deepcopy(model.data_preprocessor))
        cfg |= {key: model.model.get(key) for key in ('backbone', 'neck', 'head', 'init_cfg')}
        with random_state(0):
            classifier: Any = MODELS.build(cfg)
            classifier.init_weights()
        if weights is not None:
            classifier.load_state_dict(weights, strict=False)
        self.classifier = classifier.eval()
        self.trained = weights is not None

    @property
    def augments(self) -> list[Callable]:
        """All that mix, in their order."""
        augment: Any = self.classifier.augment if isinstance(self.classifier, MixClassifier) else None
        augment = augment or self.classifier.data_preprocessor.batch_augments
        return [one for one in augment.augments if one is not None] if augment else []

    @torch.no_grad()
    def mix(self, augment: Callable, images: Tensor, labels: Tensor | None, seed: int) -> MixedImage:
        """Mix two images, the second into the first.

        Draws that pair an image with itself, or that leave less than a twentieth of either, are drawn again.

        Args:
            augment: One of :attr:`augments`.
            images: ``(2, 3, H, W)`` as the data preprocessor returns them.
            labels: ``(2,)`` int64 class indices; None if they are not the model's.
            seed: Of the draw.
        """
        if labels is None and isinstance(augment, BatchMixer) and augment.needs_labels:
            raise ValueError(
                f'{type(augment).__name__} looks for what shows the label, and the classes of the data are not those '
                'of the model. Give the --config of a model of these classes.'
            )
        classes = self.classifier.head.num_classes
        scores = F.one_hot(labels if labels is not None else torch.arange(2) % classes, classes).float()
        for attempt in count():
            if attempt == DRAWS:
                raise ValueError(f'{type(augment).__name__} mixed nothing in {DRAWS} draws.')
            with random_state(seed * DRAWS + attempt):
                draw: Any = self._planned if isinstance(augment, BatchMixer) else self._stock
                plan, mixed, mask, cell, partner, lam = draw(augment, images, scores)
            if partner == 1 and LEAST < lam < 1 - LEAST:
                break
        values, attention = {'λ area': lam}, None
        if self.trained:
            with class_attention(self.classifier.backbone, (images.size(2), images.size(3))) as tap:
                logits = self.classifier.head(self.classifier.extract_feat(mixed)).float()
            assert tap.map is not None
            attention = tap.map[0].cpu().numpy()
            values |= self._explain(plan, mask, tap.map, logits, scores if labels is not None else None)
        return MixedImage(to_rgb(mixed[:1], self.classifier.data_preprocessor)[0], mask, cell, values, attention)

    def _planned(self, augment: BatchMixer, images: Tensor, scores: Tensor) -> tuple:
        plan = augment.draw(images, self.classifier, scores)
        partner, lam = int(plan.partner[0]), float(plan.lam[0])
        return plan, plan.mix_images(images), mask_of(plan, 0), plan.cell, partner, lam

    def _stock(self, augment: Callable, images: Tensor, scores: Tensor) -> tuple:
        """mmpretrain's augments tell no mask: mixing black with white the same way shows it."""
        state = torch.get_rng_state(), np.random.get_state()
        mixed, target = augment(images.clone(), torch.eye(2))
        torch.set_rng_state(state[0])
        np.random.set_state(state[1])
        shown, _ = augment(torch.stack([torch.ones_like(images[0]), torch.zeros_like(images[0])]), torch.eye(2))
        # Those that resize leave rounding errors.
        return None, mixed, shown[0, 0].round(decimals=3).numpy(), 1, int(target[0, 1] > 0), float(target[0, 0])

    def _explain(
        self, plan: Any, mask: np.ndarray, attention: Tensor, logits: Tensor, scores: Tensor | None
    ) -> dict[str, float]:
        """Lambda by attention, and, where the labels are the model's, what they weigh."""
        policy = self.classifier.labels if plan is not None else None
        h, w = attention.shape[1:]
        if plan is None:
            share = F.adaptive_avg_pool2d(torch.from_numpy(mask).float()[None], (h, w))[0]
        else:
            share = plan.coverage(h, w, getattr(policy, 'nearest', False))[0]
        values = {'λ attn': float((attention[0] * share).sum())}
        if policy is None or scores is None:
            return values
        weights = policy(plan, attention, logits, scores)
        alpha = getattr(weights, 'alpha', None)
        if alpha is not None:
            values['α'] = float(alpha[0])
        own, other = (float(weight[0]) for weight in weights)
        return values | ({'λ': own} if abs(own + other - 1) < 1e-3 else {'λ own': own, 'λ partner': other})


def _fit(config: Config, model: Config) -> Config:
    """The config with mask cells and blocks that take the same share of the model's images, in whole tokens."""
    sizes = [image_size(one) for one in (config, model)]
    fitted = deepcopy(config)
    if sizes[0] == sizes[1]:
        return fitted
    stride = class_attention_of(build_backbone(model)).token_stride
    for augment in (fitted.model.get('train_cfg') or {}).get('augments', []):
        if 'mask_size' in augment:
            tokens = round(augment.mask_size * sizes[1] / sizes[0] / stride)
            cells = sizes[0] / augment.mask_size
            augment.mask_size = max(tokens, 1) * stride
            if 'min_block_tokens' in augment:
                share = (sizes[1] / augment.mask_size / cells) ** 2
                augment.min_block_tokens = max(round(augment.min_block_tokens * share), 1)
    return fitted


def build_backbone(config: Config) -> nn.Module:
    """The backbone of a config, without weights."""
    with random_state(0):
        return MODELS.build(config.model.backbone)


def image_size(config: Config) -> int:
    """Side in pixels of the images of a config."""
    size = config.model.backbone.get('img_size', 224)
    return size if isinstance(size, int) else min(size)
