# Copyright (c) MMMixPro contributors.
import numpy as np
import torch
from mmpretrain.registry import BATCH_AUGMENTS
from torch import Tensor, nn

from mmmixpro.structures import MixPlan

from .base import BatchMixer
from .masks import random_boxes
from .modes import BetaLam


@BATCH_AUGMENTS.register_module()
class CutMixBatchAugment(BatchMixer):
    """CutMix in timm's three modes, and for any label policy.

    `CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features
    <https://arxiv.org/abs/1905.04899>`_, Algorithm 1: a box of the partner, of area ``1 - lam`` and clipped by the
    image. In ``mode='batch'`` :meth:`draw` is mmpretrain's ``CutMix``, of the same random numbers.

    Args:
        alpha: Parameter of Beta(alpha, alpha), from which the share kept is drawn; positive.
        prob: Chance in [0, 1] that a batch is mixed at all, in every mode (timm's ``prob`` is each element's own in
            its other modes).
        mode: Who shares a box: ``'batch'`` all images, ``'pair'`` images ``i`` and ``N - 1 - i``, who are each
            other's partners, ``'elem'`` none.
        align: Move the box's borders to the nearest multiples of so many pixels; 16 leaves no border within a token
            of 16 px (Table 8, A of MixPro).

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, alpha: float = 1.0, prob: float = 1.0, mode: str = 'batch', align: int = 1):
        super().__init__(prob)
        if not isinstance(align, int) or align < 1:
            raise ValueError(f'align is a number of pixels, a positive integer; got {align!r}.')
        self.lam = BetaLam(alpha, mode)
        self.align = align

    def draw(self, images: Tensor, model: nn.Module | None = None, scores: Tensor | None = None) -> MixPlan:
        num, _, height, width = images.shape
        # Half past a multiple goes up.
        boxes = (random_boxes((height, width), self.lam(num)) + self.align // 2) // self.align * self.align
        boxes = np.ascontiguousarray(self.lam.mode.share(boxes, num))
        # The last multiple may lie past the border, which does no harm.
        top, bottom, left, right = (
            torch.from_numpy(boxes).to(images.device, non_blocking=True)[..., None, None].unbind(1)
        )
        row, column = torch.arange(height, device=images.device)[:, None], torch.arange(width, device=images.device)
        box = (top <= row) & (row < bottom) & (left <= column) & (column < right)
        return MixPlan(self.lam.mode.partners(num, images.device), ~box, cell=1, size=(height, width))
