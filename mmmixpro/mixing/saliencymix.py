# Copyright (c) MMMixPro contributors.
import torch
from mmpretrain.registry import BATCH_AUGMENTS
from torch import Tensor, nn

from mmmixpro.structures import MixPlan

from .base import BatchMixer
from .masks import half_side, random_partners
from .modes import BetaLam
from .saliency import salient_pixels


@BATCH_AUGMENTS.register_module()
class SaliencyMix(BatchMixer):
    r"""CutMix whose box lies on the most salient pixel of the image that it is cut from.

    `SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better Regularization
    <https://arxiv.org/abs/2006.01791>`_, Sec. 3: :math:`\lambda \sim Beta(\alpha, \alpha)`, a box of
    :math:`1 - \lambda` of the image around the peak of the partner's saliency, clipped by the border, pasted at the
    same place; the labels follow the area that is left of it.

    Deviations from the released code, which asks OpenCV on the CPU for the saliency of one image, the first one's
    partner, and gives all images the box found there:

    - every image has a box of its own, around the peak of its own partner, as the paper describes it. The draw of
      :math:`\lambda`, and so the size of the box before it is clipped, is one for the batch, as released;
    - saliency is the spectral residual, computed on the images' device, in place of OpenCV's fine grained one
      (Montabone and Soto), see :func:`~mmmixpro.mixing.saliency.spectral_residual`.

    Args:
        alpha: Parameter of the Beta distribution; positive.
        prob: Chance in [0, 1] that a batch is mixed at all.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, alpha: float = 1.0, prob: float = 1.0):
        super().__init__(prob)
        self.lam = BetaLam(alpha)

    def draw(self, images: Tensor, model: nn.Module | None = None, scores: Tensor | None = None) -> MixPlan:
        num, _, height, width = images.shape
        (lam,) = self.lam(1)
        partner = random_partners(num, images.device)
        rows, columns = (
            _within(centre[partner], int(half_side(side, lam)), side)
            for centre, side in zip(salient_pixels(images), (height, width), strict=True)
        )
        mask = ~(rows[:, :, None] & columns[:, None])
        # Cheaper than counting the pixels of N masks, and as exact.
        kept = height * width - rows.sum(1) * columns.sum(1)
        return MixPlan(partner, mask, cell=1, size=(height, width), lam=kept / (height * width))


def _within(centre: Tensor, half: int, side: int) -> Tensor:
    """``(N, side)`` bool: the pixels of ``[centre - half, centre + half)`` along one side of the image."""
    pixels = torch.arange(side, device=centre.device)
    return (pixels >= centre[:, None] - half) & (pixels < centre[:, None] + half)
