# Copyright (c) MMMixPro contributors.
from dataclasses import dataclass

import torch
from mmpretrain.registry import BATCH_AUGMENTS
from torch import Tensor, nn

from mmmixpro.structures import MixPlan

from .base import BatchMixer
from .modes import BetaLam


@dataclass(frozen=True)
class BlendPlan(MixPlan):
    """Every pixel shows both images: the mask, of one cell, is ``(N, 1, 1)`` float32, ``lam`` itself."""

    @torch.no_grad()
    def mix_images(self, images: Tensor) -> Tensor:
        """``lam * x_i + (1 - lam) * x_j``, leaving the input as it is; floating point only."""
        lam = self.lam[:, None, None, None].to(images.dtype)
        return images[self.partner].mul_(1 - lam).addcmul_(images, lam)


@BATCH_AUGMENTS.register_module()
class MixupBatchAugment(BatchMixer):
    r"""Mixup in timm's three modes, and for any label policy.

    `mixup: Beyond Empirical Risk Minimization <https://arxiv.org/abs/1710.09412>`_, Eq. 1 and 2:
    :math:`\lambda x_i + (1 - \lambda) x_j`, labels likewise. In ``mode='batch'`` :meth:`draw` is mmpretrain's
    ``Mixup``, of the same random numbers. Attention divides every token alike, so that labels by attention are
    those by area.

    Args:
        alpha: Parameter of Beta(alpha, alpha), from which :math:`\lambda` is drawn; positive.
        prob: Chance in [0, 1] that a batch is mixed at all, in every mode (timm's ``prob`` is each element's own in
            its other modes).
        mode: Who shares :math:`\lambda`: ``'batch'`` all images, ``'pair'`` images ``i`` and ``N - 1 - i``, who are
            each other's partners, ``'elem'`` none.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, alpha: float = 0.8, prob: float = 1.0, mode: str = 'batch'):
        super().__init__(prob)
        self.lam = BetaLam(alpha, mode)

    def draw(self, images: Tensor, model: nn.Module | None = None, scores: Tensor | None = None) -> BlendPlan:
        num, _, height, width = images.shape
        drawn = torch.from_numpy(self.lam.mode.share(self.lam(num), num).astype('float32'))
        lam = drawn.to(images.device, non_blocking=True).expand(num)
        return BlendPlan(
            partner=self.lam.mode.partners(num, images.device),
            mask=lam[:, None, None],
            cell=max(height, width),
            size=(height, width),
            lam=lam,
        )
