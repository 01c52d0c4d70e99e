# Copyright (c) MMMixPro contributors.
"""Transforms that hide patches of an image, and what they need of a pipeline; how they do is in ``patches.py``."""

import math
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform, CenterCrop
from mmpretrain.registry import TRANSFORMS
from torch import Tensor

from .content_maps import crop_box
from .patches import KINDS, Kind, as_grid, exact, occlude, random_ranks, salient_ranks


class Occlusion(BaseTransform):
    """Hide patches of ``results['img']``, uint8, which stays a uint8 image; after resizing and cropping.

    Args:
        ratio: Share of the patches in [0, 1].
        grid: Patches along both sides, or rows and columns.

    Raises:
        ValueError: If an argument is out of its range.
    """

    kind: Kind

    def __init__(self, ratio: float, grid: int | tuple[int, int] = 14):
        exact(ratio)
        self.ratio = ratio
        self.grid = as_grid(grid)

    def ranks(self, results: dict, size: tuple[int, int]) -> Tensor:
        """The order of the image's patches, ``(1, P)``."""
        raise NotImplementedError

    def transform(self, results: dict) -> dict:
        """Hide.

        Raises:
            TypeError: If the image is not uint8.
            ValueError: If the image is smaller than the grid, or if what orders the patches is missing.
        """
        img = results['img']
        if img.dtype != np.uint8:
            raise TypeError(
                f'{type(self).__name__} hides pixels before normalisation and expects a uint8 image, got {img.dtype}. '
                'Load it with to_float32=False, and leave normalisation to the data preprocessor.'
            )
        image = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(img))).permute(2, 0, 1)
        hidden = self.kind.hide(self.ranks(results, img.shape[:2]), self.ratio)
        shown = occlude(image[None], hidden, self.grid)[0].permute(1, 2, 0)
        results['img'] = np.ascontiguousarray(shown.numpy()).reshape(img.shape)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ratio={self.ratio}, grid={self.grid})'


@TRANSFORMS.register_module()
class RandomOcclusion(Occlusion):
    """Hide patches at random; the same ones of an image in each epoch, worker, order and rank.

    The image is known by its ``sample_idx``, which mmengine's datasets give.

    Args:
        ratio: Share of the patches in [0, 1], halves of a patch rounded up.
        grid: Patches along both sides, or rows and columns.
        seed: Not negative.
    """

    kind = KINDS['random']

    def __init__(self, ratio: float, grid: int | tuple[int, int] = 14, seed: int = 0):
        super().__init__(ratio, grid)
        self.seed = seed

    def ranks(self, results: dict, size: tuple[int, int]) -> Tensor:
        if 'sample_idx' not in results:
            raise ValueError(
                'RandomOcclusion knows an image by its sample_idx, and found none. Use a dataset of mmengine.'
            )
        return random_ranks([results['sample_idx']], math.prod(self.grid), self.seed)


@TRANSFORMS.register_module()
class SalientOcclusion(Occlusion):
    """Hide the most salient patches, halves of a patch rounded up.

    Args:
        ratio: Share of the patches in [0, 1].
        grid: Patches along both sides, or rows and columns.
        key: Where ``results`` have the map of the image as it is now, ``(h, w)``; ``LoadContentMap`` puts precomputed
            ones there, after ``TrackedCenterCrop``.
    """

    kind = KINDS['salient']

    def __init__(self, ratio: float, grid: int | tuple[int, int] = 14, key: str = 'content'):
        super().__init__(ratio, grid)
        self.key = key

    def ranks(self, results: dict, size: tuple[int, int]) -> Tensor:
        if self.key not in results:
            raise ValueError(
                f'{type(self).__name__} expects a map (h, w) of the image as results[{self.key!r}], and found none. '
                "Put dict(type='LoadContentMap', path=...) before it."
            )
        saliency = torch.from_numpy(np.array(results[self.key], np.float32))
        return salient_ranks(saliency[None], self.grid, size)


@TRANSFORMS.register_module()
class NonSalientOcclusion(SalientOcclusion):
    """Hide the least salient patches: exactly those that :class:`SalientOcclusion` shows at ``1 - ratio``."""

    kind = KINDS['non-salient']


@TRANSFORMS.register_module()
class TrackedCenterCrop(CenterCrop):
    """mmcv's CenterCrop, same pixels, that notes its box for ``LoadContentMap``.

    It stands after what resizes the whole image, not after another crop. An image that is no larger than
    ``crop_size`` is left whole.

    Args:
        crop_size: Width and height, or one integer for both.
        **kwargs: Those of :class:`mmcv.transforms.CenterCrop`.

    Raises:
        ValueError: With ``auto_pad``, for there is no map of what is padded.
    """

    def __init__(self, crop_size: int | tuple[int, int], **kwargs: Any):
        super().__init__(crop_size, **kwargs)
        if self.auto_pad:
            raise ValueError(
                'TrackedCenterCrop has no map of padded pixels. Resize to crop_size at least, or CenterCrop.'
            )

    def _crop_img(self, results: dict, bboxes: np.ndarray) -> None:
        left, top, right, bottom = (int(edge) for edge in bboxes)  # the last ones belong to it
        results['crop_box'] = crop_box(results, top, left, bottom - top + 1, right - left + 1)
        super()._crop_img(results, bboxes)
