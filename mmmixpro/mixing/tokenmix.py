# Copyright (c) MMMixPro contributors.
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmpretrain.registry import BATCH_AUGMENTS
from torch import Tensor

from mmmixpro.structures import MixPlan

from .base import CellMixer
from .masks import random_cells, random_partners
from .teacher import FrozenClassifier

ATTEMPTS = 10
MIN_ASPECT = 0.3


@dataclass(frozen=True)
class TokenMixPlan(MixPlan):
    """A plan that knows what the images show where.

    Args:
        content: ``(N, h, w)``, not negative: how much of the label each part of image ``i`` shows, before mixing and
            on any scale. None where nothing is known of it.
    """

    content: Tensor | None = None


def block_cells(grid: tuple[int, int], count: int, min_block: int, device: torch.device) -> Tensor:
    """A mask with up to ``count`` cells False, in blocks that may overlap; ``(1, gh, gw)`` bool.

    Drawn as in `BEiT <https://arxiv.org/abs/2106.08254>`_, Algorithm 1, and the code of TokenMix: a block's area is
    uniform between ``min_block`` and what is left to cover, its height over its width log-uniform in [0.3, 1 / 0.3].
    A block that covers more than is left, or nothing new, is drawn again; after ten in a row the mask stays as it is.

    Blocks are found on the host, 0.2 ms a batch, and each is one fill on the device, 5 on average for the half of
    14 x 14: nothing is copied, nothing waits.
    """
    covered = np.zeros(grid, dtype=bool)
    mask = torch.ones(1, *grid, dtype=torch.bool, device=device)
    attempts = 0
    while attempts < ATTEMPTS and covered.sum() < count:
        left = count - covered.sum()
        area = np.random.uniform(min(min_block, left), max(min_block, left))
        aspect = math.exp(np.random.uniform(math.log(MIN_ASPECT), -math.log(MIN_ASPECT)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        attempts += 1
        if not (0 < height < grid[0] and 0 < width < grid[1]):
            continue
        top, column = np.random.randint(grid[0] - height + 1), np.random.randint(grid[1] - width + 1)
        block = slice(top, top + height), slice(column, column + width)
        if 0 < (~covered[block]).sum() <= left:
            covered[block] = True
            mask[0][block] = False
            attempts = 0
    return mask


def scattered_cells(grid: tuple[int, int], count: int, min_block: int, device: torch.device) -> Tensor:
    """A mask with ``count`` cells False, each set of cells equally likely; ``(1, gh, gw)`` bool."""
    return random_cells(1, grid, math.prod(grid) - count, device)


MASKS: dict[str, Callable[[tuple[int, int], int, int, torch.device], Tensor]] = dict(
    block=block_cells, random=scattered_cells
)


@BATCH_AUGMENTS.register_module()
class TokenMix(CellMixer):
    r"""Mixing at the level of tokens, the image half of TokenMix.

    `TokenMix: Rethinking Image Mixing for Data Augmentation in Vision Transformers
    <https://arxiv.org/abs/2207.08409>`_ and its released code. One mask for the batch gives half of the tokens to the
    partner, in several blocks of 14 tokens or more (``mask_type='block'``), or each by itself (``'random'``).

    The label half is :class:`~mmmixpro.labels.ContentLabels`, which needs to know what the images show where: the
    class activation maps of a frozen teacher. They come from ``teacher``, by one more forward pass of the images before
    mixing on batches of TokenMix, or, without a teacher, with the samples, computed beforehand
    (:class:`~mmmixpro.models.TokenMixClassifier`). With other labels neither is needed.

    Where we part from the released code:

    - There the 14 is added to the tokens that the partner gets, 98 + 14 of 196, and blocks may be a single token:
      ``mask_ratio=4 / 7, min_block_tokens=1`` here.
    - The grid is that of ``mask_size`` in the image at hand (there: 14 x 14 in 224 px, for every backbone; the tokens
      of 32 px of a PVT's last stage then show both images). Half of an odd number of tokens is rounded down.
    - Partners are a random permutation (there: the batch reversed, of even size).
    - The teacher may be any classifier of mmpretrain's (there: NFNet-F6 at 576 px, run beforehand), and a live one sees
      the images as they are trained on, crops and colours included. Its map is the label's logit where it is among
      the five highest, as there, but never negative.
    - The released script trains with binary cross entropy. That is a matter of the head here:
      ``head.loss=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1 / num_classes)``, without smoothing.

    Args:
        teacher: Config of the teacher, a classifier of mmpretrain's, see
            :class:`~mmmixpro.mixing.teacher.FrozenClassifier`. Its weights are loaded when training begins, by
            ``init_cfg=dict(type='Pretrained', checkpoint=..., strict=True)``. None leaves the content open.
        mask_type: ``'block'`` or ``'random'``.
        mask_size: Side of a token in pixels. Where it does not divide the image, the last row and column are cropped.
        mask_ratio: Share of the tokens that show the partner, in (0, 1). Blocks stay a little below where none fits
            any more: 97.6 of the 98 of 196 on average.
        min_block_tokens: Tokens of the smallest block, positive; where less is left to cover, a block must overlap
            others. Random masks do not use it.
        top_k: Positions where the label is not among so many best classes of the teacher count nothing; positive.
        prob: Chance in [0, 1] that a batch is mixed at all.

    Raises:
        ValueError: See :class:`CellMixer`; or if another argument is out of its range, if there is no source of
            content for labels that need one, or, at the first batch, if the image has too few tokens.
        FileNotFoundError: From :meth:`init_weights`, if the teacher's checkpoint is missing.
    """

    brings_content = True

    def __init__(
        self,
        teacher: dict | None = None,
        mask_type: str = 'block',
        mask_size: int = 16,
        mask_ratio: float = 0.5,
        min_block_tokens: int = 14,
        top_k: int = 5,
        prob: float = 1.0,
    ):
        super().__init__(mask_size, prob)
        if mask_type not in MASKS:
            raise ValueError(f'mask_type must be one of {list(MASKS)}, got {mask_type!r}.')
        if not 0 < mask_ratio < 1:
            raise ValueError(f'mask_ratio is the share of tokens that show the partner, in (0, 1); got {mask_ratio}.')
        for name, value in dict(min_block_tokens=min_block_tokens, top_k=top_k).items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} must be a positive integer, got {value!r}.')
        self.teacher = None if teacher is None else FrozenClassifier(teacher)
        self.needs_labels = teacher is not None
        self.mask_type = mask_type
        self.mask_ratio = mask_ratio
        self.min_block_tokens = min_block_tokens
        self.top_k = top_k

    def init_weights(self) -> None:
        """Build the teacher and load its weights."""
        if self.teacher is not None:
            self.teacher.init_weights_for(self, 'a classifier trained on the same classes', 'TOKENMIX_TEACHER')

    def check_model(self, model: Any) -> None:
        needed = getattr(getattr(model, 'labels', None), 'needs_content', False)
        if needed and self.teacher is None and not getattr(model, 'brings_content', False):
            raise ValueError(
                f'{type(model.labels).__name__} weighs labels by what the images show, and nothing tells: expected a '
                'teacher of TokenMix, or maps computed beforehand. Set teacher of this augment, or '
                "model.type='TokenMixClassifier' with a data pipeline that has LoadContentMap."
            )

    def draw(self, images: Tensor, model: Any = None, scores: Tensor | None = None) -> TokenMixPlan:
        num, _, height, width = images.shape
        grid = self.grid(height, width)
        count = int(self.mask_ratio * math.prod(grid))
        least = self.min_block_tokens if self.mask_type == 'block' else 1
        if count < least:
            raise ValueError(
                f'mask_ratio={self.mask_ratio} of {grid[0]} x {grid[1]} tokens (mask_size={self.mask_size}, images of '
                f'{height} x {width} px) are {count}, expected {least} at least. Set a smaller mask_size or '
                'min_block_tokens, or a larger mask_ratio.'
            )
        content = None
        # Other labels read no content: then the teacher would work for nothing.
        if self.teacher is not None and getattr(getattr(model, 'labels', None), 'needs_content', model is None):
            if scores is None:
                raise ValueError('TokenMix asks its teacher for the labels of the images; expected scores, found none.')
            content = self.teacher.activation(images, scores, self.top_k)
        return TokenMixPlan(
            partner=random_partners(num, images.device),
            mask=MASKS[self.mask_type](grid, count, self.min_block_tokens, images.device),
            cell=self.mask_size,
            size=(height, width),
            content=content,
        )
