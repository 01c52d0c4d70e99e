# Copyright (c) MMMixPro contributors.
"""mmpretrain's training transforms, faster: the same arguments, the same draws, the same images.

Each class is its stock namesake with one costly step replaced, and says what remains equal. What they share: images
are (H, W, 3) uint8, and stay contiguous from the decoder to the tensor, for OpenCV first copies what is not.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import RandomFlip
from mmpretrain.datasets.transforms import (
    AutoContrast,
    Brightness,
    Contrast,
    Equalize,
    Invert,
    Posterize,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    Solarize,
    SolarizeAdd,
)
from mmpretrain.registry import TRANSFORMS

from .content_maps import crop_box

RAMP = np.arange(256, dtype=np.uint8)[None]
ANTIALIASED = ('bilinear', 'bicubic')
FLIP_CODES = dict(horizontal=1, vertical=0, diagonal=-1)


@TRANSFORMS.register_module()
class FastRandomResizedCrop(RandomResizedCrop):
    """RandomResizedCrop with torch's antialiased uint8 resize in place of Pillow's.

    The crops are the stock ones, draw by draw. Both resizes are the same two-pass filter in fixed point, one in
    vector instructions: on photographs 97 % of the values are equal, nearly all others differ by one level, without a
    bias (the tests hold it to that). torch needs AVX2 for its speed; without, this is slower than Pillow.

    Args:
        scale: Output size, as in the stock transform.
        interpolation: ``'bicubic'`` or ``'bilinear'``. Defaults to the stock one's ``'bilinear'``.
        backend: ``'pillow'`` alone: OpenCV's resize does not antialias.
        **kwargs: Those of :class:`mmpretrain.datasets.RandomResizedCrop`.

    Raises:
        ValueError: For another ``interpolation`` or ``backend``.
        TypeError: If an image is not uint8.
    """

    def __init__(
        self, scale: int | tuple[int, int], interpolation: str = 'bilinear', backend: str = 'pillow', **kwargs: Any
    ) -> None:
        super().__init__(scale, interpolation=interpolation, backend=backend, **kwargs)
        if backend != 'pillow' or interpolation not in ANTIALIASED:
            raise ValueError(
                f"FastRandomResizedCrop resizes as backend='pillow' does, with interpolation in {ANTIALIASED}; got "
                f'backend={backend!r}, interpolation={interpolation!r}. For others take RandomResizedCrop.'
            )

    def transform(self, results: dict) -> dict:
        """Crop and resize ``results['img']``, (H, W, 3) uint8, and note the ``crop_box``."""
        img = results['img']
        if img.dtype != np.uint8:
            raise TypeError(f'Expected a uint8 image, got {img.dtype}. Load it with to_float32=False.')
        top, left, height, width = self.rand_crop_params(img)
        results['crop_box'] = crop_box(results, top, left, height, width)
        if min(img.strides) < 0:
            img = img.copy()  # the stock flip leaves a view that steps backwards, which torch does not take
        crop = torch.from_numpy(img[top : top + height, left : left + width])
        # The batch comes before the permutation: so torch sees a channels-last layout and keeps it, without a copy.
        crop = crop[None].permute(0, 3, 1, 2)
        resized = F.interpolate(crop, tuple(self.scale), mode=self.interpolation, antialias=True)
        results['img'] = np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())
        results['img_shape'] = results['img'].shape
        return results


@TRANSFORMS.register_module()
class FastRandomFlip(RandomFlip):
    """RandomFlip that leaves a contiguous image, where the stock one leaves a view with negative strides.

    Same draws, same pixels.
    """

    def _flip(self, results: dict) -> None:
        img = results['img']
        super()._flip(results)  # boxes, keypoints, masks; the image only as a view
        results['img'] = cv2.flip(img, FLIP_CODES[results['flip_direction']]).reshape(img.shape)


@TRANSFORMS.register_module()
class FastRandAugment(RandAugment):
    """RandAugment whose operations on single values go through a table of 256 entries.

    Same draws, same pixels: the table is what the stock operation makes of the values 0 to 255. Equalize and
    AutoContrast (a table per channel, from its histogram) and Contrast (from the image's mean) are restated here.
    What moves or blends pixels (Rotate, Shear, Translate, ColorTransform, Sharpness) is the stock operation itself.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.transforms[:] = [TABLES[type(op)](op) if type(op) in TABLES else op for op in self.transforms]


class ValueTable:
    """Applies an operation that maps each value by itself: to the ramp 0 ... 255, and by it to the image."""

    def __init__(self, op: Callable[[dict], dict]) -> None:
        self.op = op

    def __call__(self, results: dict) -> dict:
        table = self.op(dict(img=RAMP))['img']
        if table is not RAMP:  # where the draw says no, the stock operation hands back what it got
            results['img'] = cv2.LUT(results['img'], table)
        return results

    def __repr__(self) -> str:
        return repr(self.op)


class HistogramTable(ValueTable):
    """Applies an operation that maps the values of a channel by that channel's histogram."""

    op: AutoContrast | Equalize

    def __call__(self, results: dict) -> dict:
        if not self.op.random_disable():
            img = results['img']
            channels = range(img.shape[2])
            tables = [self.table(cv2.calcHist([img], [c], None, [256], [0, 256]).ravel()) for c in channels]
            results['img'] = cv2.LUT(img, np.stack(tables, -1)[None])
        return results

    @staticmethod
    def table(histogram: np.ndarray) -> np.ndarray:
        """The table, (256,) uint8, for a histogram, (256,) float32."""
        raise NotImplementedError


class AutoContrastTable(HistogramTable):
    """Stretches the values linearly to 0 ... 255."""

    @staticmethod
    def table(histogram: np.ndarray) -> np.ndarray:
        low, high = np.flatnonzero(histogram)[[0, -1]]
        if low == high:
            return RAMP[0]
        scale = 255.0 / (high - low)
        return np.clip(np.arange(256) * scale - low * scale, 0, 255).astype(np.uint8)


class EqualizeTable(HistogramTable):
    """Spreads the values so that each stands for as many pixels, in steps as Pillow takes them."""

    @staticmethod
    def table(histogram: np.ndarray) -> np.ndarray:
        counts = histogram.astype(np.int64)  # exact: float32 counts to 2^24 pixels
        total = counts.sum()
        step = (total - counts[np.flatnonzero(counts)[-1]]) // 255
        if step == 0:
            return RAMP[0]
        below = np.cumsum(counts) - counts
        return np.minimum((below + step // 2) // step * (np.arange(256) > 0), 255).astype(np.uint8)


class ContrastTable(ValueTable):
    """Moves the values away from or towards the mean of the image's grey values."""

    op: Contrast

    def __call__(self, results: dict) -> dict:
        op, img = self.op, results['img']
        if not op.random_disable():
            magnitude = op.random_negative(op.random_magnitude() if op.magnitude is None else op.magnitude)
            grey = cv2.cvtColor(img, cv2.COLOR_BGR2GRAY)
            mean = np.full(RAMP.shape, round(np.sum(grey) / grey.size), np.float32)
            table = cv2.addWeighted(RAMP.astype(np.float32), 1 + magnitude, mean, -magnitude, 0)
            results['img'] = cv2.LUT(img, np.clip(table, 0, 255).astype(np.uint8))
        return results


TABLES: dict[type, type[ValueTable]] = {
    **dict.fromkeys((Brightness, Invert, Posterize, Solarize, SolarizeAdd), ValueTable),
    AutoContrast: AutoContrastTable,
    Equalize: EqualizeTable,
    Contrast: ContrastTable,
}


@TRANSFORMS.register_module()
class FastRandomErasing(RandomErasing):
    """RandomErasing whose normal noise comes from torch in float32, not from NumPy in float64.

    Whether and where to erase is drawn as in the stock transform. The noise has the same distribution: normal,
    truncated to integers, clipped to 0 ... 255. It follows torch's seed, which is set in every data loading worker.
    """

    def _fill_pixels(self, img: np.ndarray, top: int, left: int, h: int, w: int) -> np.ndarray:
        if self.mode != 'rand' or self.fill_std is None:
            return super()._fill_pixels(img, top, left, h, w)
        noise = torch.randn(h, w, 3).mul_(torch.tensor(self.fill_std)).add_(torch.tensor(self.fill_color))
        img[top : top + h, left : left + w] = noise.clamp_(0, 255).byte().numpy()
        return img
