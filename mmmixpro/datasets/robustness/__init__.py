# Copyright (c) MMMixPro contributors.
"""Test sets that ask for more than ImageNet's own: natural adversaries, other styles, corruptions."""

from .cifar100_c import CIFAR100C
from .corrupted import CorruptedDataset
from .imagenet_c import ImageNetC
from .imagenet_o import ImageNetO
from .imagenet_variants import ImageNetA, ImageNetR, ImageNetSketch, ImageNetV2

__all__ = [
    'CIFAR100C',
    'CorruptedDataset',
    'ImageNetA',
    'ImageNetC',
    'ImageNetO',
    'ImageNetR',
    'ImageNetSketch',
    'ImageNetV2',
]
