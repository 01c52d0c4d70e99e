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
from .modes import BetaLam

ROUNDING = dict(floor=np.floor, ceil=np.ceil)
PAIRING = dict(random=random_partners, flip=flipped_partners)
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
        mode: ``'batch'`` draws one :math:`\tau` for the batch, ``'pair'`` one for images ``i`` and
            ``N - 1 - i``, who are then each other's partners, ``'elem'`` one for each image. Cells
            are drawn for each image in all.
        prob: Chance in [0, 1] that a batch is mixed at all.
        rounding: ``'floor'`` (paper) or ``'ceil'`` (released code).
        lam: ``'area'`` takes the share of pixels kept, which cropped cells make differ from the
            share of cells (paper); ``'count'`` takes the share of cells (released code).
        pairing: ``'random'`` permutes the batch (released code), ``'flip'`` reverses it
            (Algorithm 1).
        offset: Move the grid of cells up and left by so many pixels. What is no multiple of the
            token stride puts borders within tokens, on purpose (Table 8, B).

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
        offset: int = 0,
    ):
        super().__init__(mask_size, prob)
        if not isinstance(offset, int) or not 0 <= offset < mask_size:
            raise ValueError(f'offset is a number of pixels, in [0, mask_size={mask_size}); got {offset!r}.')
        for name, value, choices in (
            ('rounding', rounding, ROUNDING),
            ('lam', lam, AREAS),
            ('pairing', pairing, PAIRING),
        ):
            if value not in choices:
                raise ValueError(f'{name} must be one of {list(choices)}, got {value!r}.')
        self.tau = BetaLam(alpha, mode)
        self.round = ROUNDING[rounding]
        self.count_cells = lam == 'count'
        self.partners = self.tau.mode.partners if mode == 'pair' else PAIRING[pairing]
        self.offset = offset

    def draw(self, images: Tensor, model: nn.Module | None = None, scores: Tensor | None = None) -> MixPlan:
        num, _, height, width = images.shape
        grid = self.grid(height + self.offset, width + self.offset)
        tau = self.tau.mode.share(self.tau(num), num)[:, None]
        keep = torch.from_numpy(self.round(tau * math.prod(grid)))
        keep = keep.to(images.device, non_blocking=True)
        cells = random_cells(num, grid, keep, images.device)
        # With an offset, the largest pieces of cells that fit both borders.
        piece = math.gcd(self.mask_size, self.offset)
        rows, columns = (slice(self.offset // piece, -(-(side + self.offset) // piece)) for side in (height, width))
        mask = cells.repeat_interleave(self.mask_size // piece, 1).repeat_interleave(self.mask_size // piece, 2)
        plan = MixPlan(self.partners(num, images.device), mask[:, rows, columns], piece, (height, width))
        return replace(plan, lam=cells.float().mean((1, 2))) if self.count_cells else plan
