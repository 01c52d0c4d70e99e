# Copyright (c) MMMixPro contributors.
"""Miniatures of ImageNet's robustness sets, whose images show their class."""

import cv2
import numpy as np

from mmmixpro.datasets.robustness.classes import wnids
from mmmixpro.datasets.robustness.imagenet_o import IMAGENET_O

# Of each suite its dataset, and how many images the miniature has; those of cifar100 are tested on models of it.
SUITES = {
    'calibration': ('ImageNet', 1000),
    'imagenet-a': ('ImageNetA', 200),
    'imagenet-o': ('ImageNetO', 400),
    'imagenet-r': ('ImageNetR', 200),
    'imagenet-sketch': ('ImageNetSketch', 1000),
    'imagenet-v2': ('ImageNetV2', 1000),
    'imagenet-c': ('ImageNetC', 4000),
    'corruption': ('CorruptedDataset', 4000),
    'cifar100-c': ('CIFAR100C', 40000),
    'cifar100-calibration': ('CIFAR100', 100),
}
CORRUPTED = ('imagenet-c', 'corruption', 'cifar100-c')
# As in ImageNet's configs, but smaller.
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=48, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=40),
    dict(type='PackInputs'),
]


def suite_of(leaf):
    return leaf.split('_deit-s_')[1]


def colour(index):
    """Blue, green and red of the images of a class."""
    return index % 256, index // 256, 200


def shown(inputs):
    """The class that ``inputs``, ``(3, H, W)`` in BGR, shows all over."""
    blue, green, red = inputs.flatten(1).numpy().astype(int)
    assert (red == 200).all() and (blue == blue[0]).all() and (green == green[0]).all()
    return int(blue[0] + 256 * green[0])


def write_imagenet(root, side=36):
    """An image for each of the 1000 classes, in ``val/<wnid>``."""
    for index, wnid in enumerate(wnids()):
        folder = root / 'val' / wnid
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / f'ILSVRC2012_val_{index:08d}.png'), np.full((side, side, 3), colour(index), np.uint8))


def link(root, imagenet, classes, name=str):
    """Folders of some classes, which are links to those of ``imagenet``; ``name`` tells a folder's name."""
    root.mkdir(parents=True)
    for wnid in classes:
        (root / name(wnid)).symlink_to(imagenet / 'val' / wnid)


def link_sets(root, imagenet, corruptions=('gaussian_noise', 'fog'), severities=(1, 5)):
    """All sets, as $ROBUSTNESS_ROOT has them, of ImageNet-C a part."""
    link(root / 'imagenet-a', imagenet, wnids('imagenet_a'))
    link(root / 'imagenet-r', imagenet, wnids('imagenet_r'))
    link(root / 'imagenet-o', imagenet, IMAGENET_O.split())
    link(root / 'imagenet-sketch', imagenet, wnids())
    link(root / 'imagenet-v2', imagenet, wnids(), lambda wnid: str(wnids().index(wnid)))
    for corruption in corruptions:
        (root / 'imagenet-c' / corruption).mkdir(parents=True)
        for severity in severities:
            (root / 'imagenet-c' / corruption / str(severity)).symlink_to(imagenet / 'val')


def write_cifar100_c(root, corruptions=('gaussian_noise', 'fog'), severities=(1, 2, 3, 4, 5)):
    """Arrays in full length, of which most is a hole in the file; the first two rows of each severity tell the row."""
    root.mkdir(parents=True)
    labels = np.zeros(50000, np.uint8)
    for number, corruption in enumerate(corruptions):
        images = np.lib.format.open_memmap(root / f'{corruption}.npy', 'w+', np.uint8, (50000, 32, 32, 3))
        for severity in severities:
            for image in range(2):
                row = (severity - 1) * 10000 + image
                images[row] = (10 * severity, image, number)
                labels[row] = 10 * severity + image
        images.flush()
    np.save(root / 'labels.npy', labels)
