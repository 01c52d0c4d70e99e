# Copyright (c) MMMixPro contributors.
from abc import ABCMeta, abstractmethod

import numpy as np
from torch import Tensor, nn

from mmmixpro.structures import MixPlan


class BatchMixer(metaclass=ABCMeta):
    """A mixing augmentation that first draws a :class:`MixPlan` and then applies it.

    :class:`~mmmixpro.models.MixClassifier` asks for the plan and leaves the labels to its label
    policy. Called like any mmpretrain batch augment, in a stock ``ImageClassifier`` for example, it
    mixes the images and weighs the labels by area.

    Args:
        prob: Chance in [0, 1] that a batch is mixed at all; 0 means never.

    Raises:
        ValueError: If ``prob`` is out of its range.
    """

    def __init__(self, prob: float = 1.0):
        if not 0 <= prob <= 1:
            raise ValueError(f'prob is the chance that a batch is mixed, in [0, 1]; got {prob}.')
        self.prob = prob

    def plan(self, images: Tensor, model: nn.Module | None = None) -> MixPlan | None:
        """Draw what to mix, or None where ``prob`` decides to leave this batch as it is.

        Args:
            images: ``(N, C, H, W)``; only their shape and device matter to mixers that no model
                guides.
            model: The classifier under training, for mixers that it guides.
        """
        if np.random.rand() >= self.prob:
            return None
        return self.draw(images, model)

    @abstractmethod
    def draw(self, images: Tensor, model: nn.Module | None) -> MixPlan:
        """Draw the plan of a batch that is mixed."""

    def check_token_stride(self, stride: int) -> None:  # noqa: B027 (optional to override)
        """Raise ValueError if the mixer does not fit tokens of ``stride`` pixels."""

    def __call__(self, inputs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Mix images and labels by area, the protocol of mmpretrain's batch augments.

        Args:
            inputs: ``(N, C, H, W)``, left as it is.
            scores: ``(N, num_classes)`` one-hot or soft labels.

        Returns:
            tuple[Tensor, Tensor]: Mixed images and float32 labels, of the same shapes.
        """
        scores = scores.float()
        plan = self.plan(inputs)
        if plan is None:
            return inputs, scores
        return plan.mix_images(inputs), plan.mix_scores(scores, plan.lam, 1 - plan.lam)
