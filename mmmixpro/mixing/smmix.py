# Copyright (c) MMMixPro contributors.
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmpretrain.registry import BATCH_AUGMENTS
from torch import Tensor
from torch.nn import functional as F

from mmmixpro.structures import MixPlan

from .base import BatchMixer
from .masks import random_partners


@dataclass(frozen=True)
class SMMixPlan(MixPlan):
    """A plan that the model under training has motivated.

    Args:
        clean_logits: ``(N, C)`` float32, what the model said of the images before mixing; no
            gradient.
    """

    clean_logits: Tensor = None  # type: ignore[assignment]


@BATCH_AUGMENTS.register_module()
class SMMix(BatchMixer):
    r"""Max-min attention region mixing, the image half of SMMix.

    `SMMix: Self-Motivated Image Mixing for Vision Transformers <https://arxiv.org/abs/2212.12977>`_,
    section 3, and its released code. On the :math:`g \times g` tokens of the backbone a side
    :math:`s` is drawn uniformly from :math:`\lfloor r_{min} g \rfloor` to :math:`\lfloor r_{max} g
    \rfloor`, one for the batch. The :math:`s \times s` region of the partner that the model looks at
    most covers the region of image :math:`i` that it looks at least: :math:`\lambda = 1 - s^2 / g^2`.
    Where the model looks is the mean attention that a patch is given by all patches, which
    :class:`~mmmixpro.models.SMMixClassifier` takes from the images before mixing.

    Other than in the released code, partners are a random permutation (there: the batch reversed, of
    even size), the grid is the backbone's own (there: ``--side``, 14), and may be oblong: :math:`g` is
    its shorter side, and :math:`\lambda` the share of tokens. Grids of less than 4 tokens a side,
    where :math:`s` could be 0, take 1 at least.

    Args:
        min_side_ratio: :math:`r_{min}`, least side of the region as a share of the grid's, in [0, 1).
        max_side_ratio: :math:`r_{max}`, largest such share, in [``min_side_ratio``, 1).
        prob: Chance in [0, 1] that a batch is mixed at all.

    Raises:
        ValueError: If an argument is out of its range, if the classifier around it is not
            ``SMMixClassifier``, or, at the first batch, if the image is a single token.
    """

    guided = True

    def __init__(self, min_side_ratio: float = 0.25, max_side_ratio: float = 0.75, prob: float = 1.0):
        super().__init__(prob)
        if not 0 <= min_side_ratio <= max_side_ratio < 1:
            raise ValueError(
                'Sides are shares of the token grid, 0 <= min_side_ratio <= max_side_ratio < 1; got '
                f'min_side_ratio={min_side_ratio}, max_side_ratio={max_side_ratio}.'
            )
        self.min_side_ratio = min_side_ratio
        self.max_side_ratio = max_side_ratio

    def check_model(self, model: Any) -> None:
        if not hasattr(model, 'motivate'):
            found = "mmpretrain's own" if model is None else type(model).__name__
            raise ValueError(
                'SMMix is guided by the model under training, and half of it is a loss of its own: it expects the '
                f"classifier to be SMMixClassifier, found {found}. Set model.type='SMMixClassifier'."
            )

    def draw(self, images: Tensor, model: Any = None, scores: Tensor | None = None) -> SMMixPlan:
        """Draw the plan of a batch.

        Args:
            images: ``(N, C, H, W)``.
            model: A classifier whose ``motivate(images)`` gives logits ``(N, num_classes)`` and a map
                of attention ``(N, gh, gw)``, as :meth:`SMMixClassifier.motivate` does.
        """
        self.check_model(model)
        clean_logits, attention = model.motivate(images)
        num, gh, gw = attention.shape
        side = self._side(gh, gw)
        partner = random_partners(num, images.device)

        # Regions are numbered by their upper left corners, the one place where all of them fit.
        columns = gw - side + 1
        regions = F.avg_pool2d(attention, side, stride=1).flatten(1)
        least, most = regions.argmin(1)[:, None, None], regions.argmax(1)[partner, None, None]
        (top, left), (source_top, source_left) = ((r // columns, r % columns) for r in (least, most))

        row, column = torch.arange(gh, device=images.device)[:, None], torch.arange(gw, device=images.device)
        covered = (top <= row) & (row < top + side) & (left <= column) & (column < left + side)
        own = row * gw + column
        shift = (source_top - top) * gw + source_left - left
        return SMMixPlan(
            partner=partner,
            mask=~covered,
            cell=images.size(2) // gh,
            size=(images.size(2), images.size(3)),
            gather=torch.where(covered, own + shift, own).flatten(1),
            clean_logits=clean_logits,
        )

    def _side(self, gh: int, gw: int) -> int:
        if gh * gw == 1:
            raise ValueError(
                'SMMix mixes regions of tokens, and these images are a single one, which leaves nothing to mix. Use '
                'larger images, or a backbone with smaller patches.'
            )
        lowest, highest = (max(int(r * min(gh, gw)), 1) for r in (self.min_side_ratio, self.max_side_ratio))
        return int(np.random.randint(lowest, highest + 1))
