# Copyright (c) MMMixPro contributors.
import numpy as np
import torch
from mmpretrain.registry import BATCH_AUGMENTS
from torch import Tensor, nn

from mmmixpro.structures import MixPlan

from .base import BatchMixer
from .masks import random_box, random_partners


@BATCH_AUGMENTS.register_module()
class TransMixBatchAugment(BatchMixer):
    """The image half of TransMix: CutMix's box, one for the whole batch.

    `TransMix: Attend to Mix for Vision Transformers <https://arxiv.org/abs/2111.09833>`_. Its
    labels are :class:`~mmmixpro.labels.AttentionLabels`.

    Args:
        alpha: Parameter of Beta(alpha, alpha), from which the share kept is drawn; positive.
        prob: Chance in [0, 1] that a batch is mixed at all.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, alpha: float = 1.0, prob: float = 1.0):
        super().__init__(prob)
        if alpha <= 0:
            raise ValueError(f'alpha of Beta(alpha, alpha) must be positive, got {alpha}.')
        self.alpha = alpha

    def draw(self, images: Tensor, model: nn.Module | None = None, scores: Tensor | None = None) -> MixPlan:
        num, _, height, width = images.shape
        top, bottom, left, right = random_box((height, width), np.random.beta(self.alpha, self.alpha))
        mask = torch.ones(1, height, width, dtype=torch.bool, device=images.device)
        mask[:, top:bottom, left:right] = False
        return MixPlan(partner=random_partners(num, images.device), mask=mask, cell=1, size=(height, width))
