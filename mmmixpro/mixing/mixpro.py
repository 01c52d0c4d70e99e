# Copyright (c) MMMixPro contributors.
import math
from dataclasses import replace

import numpy as np
import torch
from mmpretrain.registry import BATCH_AUGMENTS
from torch import Tensor, nn

from mmmixpro.structures import MixPlan

from .base import CellMixer
from .masks import flipped_partners, random_cells, random_partners

ROUNDING = dict(floor=np.floor, ceil=np.ceil)
PAIRING = dict(random=random_partners, flip=flipped_partners)
MODES = ('batch', 'elem')
AREAS = ('area', 'count')


@BATCH_AUGMENTS.register_module()
class MixProBatchAugment(CellMixer):
    r"""MaskMix, the image half of MixPro: two images mixed on a grid of random cells.

    `MixPro: Data Augmentation with MaskMix and Progressive Attention Labeling for Vision
    Transformer <https://arxiv.org/abs/2304.12043>`_, Eq. 6 and 7. The image is divided into
    :math:`S` cells of ``mask_size`` pixels, a multiple of the backbone's patches, so that every
    token comes from one image. :math:`\tau \sim Beta(\alpha, \alpha)` is drawn, and
    :math:`\lfloor S \tau \rfloor` random cells of each image are kept.

    In :class:`~mmmixpro.models.PALClassifier` the labels follow attention; in any stock
    ``ImageClassifier`` they follow area.

    Args:
        mask_size: Side of a mask cell in pixels. Where it does not divide the image, the last row
            and column of cells are cropped (64 in 224 px: 4 x 4 cells, the last 32 px wide).
        alpha: Parameter of the Beta distribution (the paper's beta); positive.
        mode: ``'batch'`` draws one :math:`\tau` for the batch, ``'elem'`` one for each image. Cells
            are drawn for each image in both.
        prob: Chance in [0, 1] that a batch is mixed at all.
        rounding: ``'floor'`` (paper) or ``'ceil'`` (released code).
        lam: ``'area'`` takes the share of pixels kept, which cropped cells make differ from the
            share of cells (paper); ``'count'`` takes the share of cells (released code).
        pairing: ``'random'`` permutes the batch (released code), ``'flip'`` reverses it
            (Algorithm 1).

    Raises:
        ValueError: If an argument is out of its range, or, from :meth:`check_token_stride`, if
            ``mask_size`` is not a multiple of the token stride, or, at the first batch, if one cell
            covers the whole image.
    """

    def __init__(
        self,
        mask_size: int = 64,
        alpha: float = 1.0,
        mode: str = 'batch',
        prob: float = 1.0,
        rounding: str = 'floor',
        lam: str = 'area',
        pairing: str = 'random',
    ):
        super().__init__(mask_size, prob)
        if alpha <= 0:
            raise ValueError(f'alpha of Beta(alpha, alpha) must be positive, got {alpha}.')
        for name, value, choices in (
            ('mode', mode, MODES),
            ('rounding', rounding, ROUNDING),
            ('lam', lam, AREAS),
            ('pairing', pairing, PAIRING),
        ):
            if value not in choices:
                raise ValueError(f'{name} must be one of {list(choices)}, got {value!r}.')
        self.alpha = alpha
        self.per_image = mode == 'elem'
        self.round = ROUNDING[rounding]
        self.count_cells = lam == 'count'
        self.partners = PAIRING[pairing]

    def draw(self, images: Tensor, model: nn.Module | None = None, scores: Tensor | None = None) -> MixPlan:
        num, _, height, width = images.shape
        grid = self.grid(height, width)
        tau = np.random.beta(self.alpha, self.alpha, size=(num, 1) if self.per_image else (1, 1))
        keep = torch.from_numpy(self.round(tau * math.prod(grid)))
        keep = keep.to(images.device, non_blocking=True)
        mask = random_cells(num, grid, keep, images.device)
        plan = MixPlan(self.partners(num, images.device), mask, self.mask_size, (height, width))
        return replace(plan, lam=mask.float().mean((1, 2))) if self.count_cells else plan
