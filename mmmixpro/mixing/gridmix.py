# Copyright (c) MMMixPro contributors.
import torch
from mmpretrain.registry import BATCH_AUGMENTS
from torch import Tensor, nn

from mmmixpro.structures import MixPlan

from .base import CellMixer
from .masks import random_partners
from .modes import BetaLam


@BATCH_AUGMENTS.register_module()
class GridMix(CellMixer):
    r"""The image half of GridMix: a grid of cells, each taken from either image by chance.

    `GridMix: Strong regularization through local context mapping
    <https://doi.org/10.1016/j.patcog.2020.107594>`_ (Pattern Recognition 109, 2021).
    :math:`\lambda \sim Beta(\alpha, \alpha)` is drawn, each cell keeps image ``i`` with chance :math:`\lambda` and
    shows its partner otherwise. The labels follow area.

    Left out is the half that gives the paper its name, local context mapping: a second head classifies each cell
    from the features there, and its loss against the cell's own label is added. Here the mixed image has its mixed
    label alone, as in OpenMixup's comparisons.

    The paper is not open, and its authors' code was not found. So these are our reading, not theirs:

    - the size of the cells: 32 px, 7 x 7 cells in 224 px, one for each position of a ResNet's last feature map,
      and whole tokens for every backbone here;
    - that cells are drawn independently, so that about, not exactly, :math:`\lambda` of them stay;
    - one mask for the whole batch, as CutMix has.

    OpenMixup's augment of this name is another one (GridMixup: a lattice of square holes, 20 in a row).

    Args:
        mask_size: Side of a mask cell in pixels. Where it does not divide the image, the last row and column of
            cells are cropped.
        alpha: Parameter of the Beta distribution; positive.
        prob: Chance in [0, 1] that a batch is mixed at all.

    Raises:
        ValueError: See :class:`CellMixer`; or if ``alpha`` is not positive.
    """

    def __init__(self, mask_size: int = 32, alpha: float = 1.0, prob: float = 1.0):
        super().__init__(mask_size, prob)
        self.lam = BetaLam(alpha)

    def draw(self, images: Tensor, model: nn.Module | None = None, scores: Tensor | None = None) -> MixPlan:
        num, _, height, width = images.shape
        (lam,) = self.lam(1)
        mask = torch.rand(1, *self.grid(height, width), device=images.device) < lam
        return MixPlan(random_partners(num, images.device), mask, self.mask_size, (height, width))
