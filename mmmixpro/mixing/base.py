# Copyright (c) MMMixPro contributors.
import math
from abc import ABCMeta, abstractmethod
from typing import Any

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

    #: Whether drawing takes passes of the model under training, most of what it costs.
    guided = False
    #: Whether plans say what the images show where, for labels that ask.
    brings_content = False
    #: Whether drawing reads the labels.
    needs_labels = False

    def __init__(self, prob: float = 1.0):
        if not 0 <= prob <= 1:
            raise ValueError(f'prob is the chance that a batch is mixed, in [0, 1]; got {prob}.')
        self.prob = prob

    def plan(self, images: Tensor, model: nn.Module | None = None, scores: Tensor | None = None) -> MixPlan | None:
        """Draw what to mix, or None where ``prob`` decides to leave this batch as it is.

        Args:
            images: ``(N, C, H, W)``, left as they are. Mixers that look for salient parts read them, the others
                only their shape and device.
            model: The classifier under training, for mixers that it guides.
            scores: ``(N, num_classes)`` labels, for mixers that look for what shows the label.
        """
        if np.random.rand() >= self.prob:
            return None
        return self.draw(images, model, scores)

    @abstractmethod
    def draw(self, images: Tensor, model: nn.Module | None = None, scores: Tensor | None = None) -> MixPlan:
        """Draw the plan of a batch that is mixed."""

    def init_weights(self) -> None:  # noqa: B027 (optional to override)
        """Load what the mixer itself needs, a teacher for example; called on every rank, before training."""

    def check_model(self, model: Any) -> None:  # noqa: B027 (optional to override)
        """Raise ValueError if the mixer needs another classifier around it; None is mmpretrain's own."""

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
        plan = self.plan(inputs, None, scores)
        if plan is None:
            return inputs, scores
        return plan.mix_images(inputs), plan.mix_scores(scores, plan.lam, 1 - plan.lam)


class CellMixer(BatchMixer):
    """A mixer whose masks are made of square cells, laid from the top left corner of the image.

    Args:
        mask_size: Side of a mask cell in pixels. Where it does not divide the image, the last row and column of
            cells are cropped.
        prob: Chance in [0, 1] that a batch is mixed at all.

    Raises:
        ValueError: If an argument is out of its range, or, from :meth:`check_token_stride`, if ``mask_size`` is not
            a multiple of the token stride, or, at the first batch, if one cell covers the whole image.
    """

    def __init__(self, mask_size: int, prob: float = 1.0):
        super().__init__(prob)
        if not isinstance(mask_size, int) or mask_size < 1:
            raise ValueError(f'mask_size is the side of a mask cell in pixels, a positive integer; got {mask_size!r}.')
        self.mask_size = mask_size

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of cells that cover an image."""
        grid = (math.ceil(height / self.mask_size), math.ceil(width / self.mask_size))
        if math.prod(grid) == 1:
            raise ValueError(
                f'mask_size={self.mask_size} makes one cell of images of {height} x {width} px, which leaves nothing '
                'to mix. Set mask_size to a quarter of the image or so, in train_cfg.augments.'
            )
        return grid

    def check_token_stride(self, stride: int) -> None:
        if self.mask_size % stride:
            raise ValueError(
                f'mask_size={self.mask_size} is not a multiple of the token stride of this backbone, '
                f'{stride} px, so tokens would show both images. Set mask_size to a multiple of {stride} '
                'in train_cfg.augments, or change the patch size of the backbone.'
            )
