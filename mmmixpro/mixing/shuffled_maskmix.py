# Copyright (c) MMMixPro contributors.
from dataclasses import dataclass
from typing import Any

import torch
from mmpretrain.registry import BATCH_AUGMENTS
from torch import Tensor, nn

from mmmixpro.structures import MixPlan

from .mixpro import MixProBatchAugment


@dataclass(frozen=True)
class ShuffledPlan(MixPlan):
    """A plan whose mixed images have patches changed about, each within the part of its own image.

    Args:
        order: ``(N, L)`` int64, the patch that each of the ``L`` patches shows, row by row.
        patch_size: Side of a patch in pixels; divides the image.
    """

    order: Tensor = None  # type: ignore[assignment]
    patch_size: int = 0

    @torch.no_grad()
    def mix_images(self, images: Tensor) -> Tensor:
        """Mix, then move the patches; ``(N, C, H, W)``, newly allocated."""
        side, grid = self.patch_size, [length // self.patch_size for length in self.size]
        mixed = super().mix_images(images)
        patches = (
            mixed.unflatten(3, (grid[1], side)).unflatten(2, (grid[0], side)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        )
        moved = patches.gather(1, self.order[..., None, None, None].expand_as(patches))
        moved = moved.unflatten(1, grid).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
        channels_last = images.is_contiguous(memory_format=torch.channels_last)
        return moved.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@BATCH_AUGMENTS.register_module()
class ShuffledMaskMix(MixProBatchAugment):
    """MaskMix whose patches are shuffled: the noisy patterns of MixPro's Table 9.

    The paper names "random shuffling on the cropped patches", another pattern whose name is lost in its table, and
    both, and says no more. Our reading: "cropped patches" are those taken from the partner, the other pattern
    shuffles those kept of image ``i``, and a patch is one of the model. Shares and labels stay.

    Args:
        patch_size: Side of a patch in pixels; divides ``mask_size`` and the image.
        shuffle_partner: Shuffle the patches taken from the partner among their places.
        shuffle_own: Shuffle the patches kept of image ``i`` among theirs.
        **kwargs: See :class:`MixProBatchAugment`.

    Raises:
        ValueError: If an argument is out of its range, or, at the first batch, if patches do not divide the image.
    """

    def __init__(self, patch_size: int = 16, shuffle_partner: bool = True, shuffle_own: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(patch_size, int) or patch_size < 1 or self.mask_size % patch_size or self.offset:
            raise ValueError(
                f'patch_size={patch_size!r} must be a positive integer that divides mask_size={self.mask_size}, and '
                f'offset={self.offset} be 0, so that each patch is of one image.'
            )
        self.patch_size = patch_size
        self.shuffle_partner = shuffle_partner
        self.shuffle_own = shuffle_own

    def draw(self, images: Tensor, model: nn.Module | None = None, scores: Tensor | None = None) -> ShuffledPlan:
        plan = super().draw(images, model, scores)
        height, width = plan.size
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f'patch_size={self.patch_size} does not divide images of {height} x {width} px, so patches cannot '
                'change places. Set patch_size to a divisor of both, in train_cfg.augments.'
            )
        own = plan.pixel_mask()[:, :: self.patch_size, :: self.patch_size].flatten(1)
        places = torch.arange(own.size(1), device=own.device) / own.size(1)
        shuffled = torch.where(own, self.shuffle_own, self.shuffle_partner)
        # Both keys have the partner's patches in [0, 1) and the own ones in [1, 2): equal ranks are of one part.
        rank = torch.where(shuffled, torch.rand_like(own, dtype=torch.float32), places) + own
        place = (places + own).argsort(1)
        order = torch.empty_like(place).scatter_(1, place, rank.argsort(1))
        return ShuffledPlan(
            plan.partner, plan.mask, plan.cell, plan.size, plan.lam, order=order, patch_size=self.patch_size
        )
