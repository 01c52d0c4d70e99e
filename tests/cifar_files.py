# Copyright (c) MMMixPro contributors.
"""Files of CIFAR-100 as they are downloaded: pickled rows of 3 x 32 x 32 bytes, known by their hashes."""

import hashlib
import pickle

import numpy as np


def write_cifar100(root, split, labels, colour):
    """Write ``'train'`` or ``'test'``, flat images of which ``colour(label)`` tells red, green and blue.

    Returns:
        list: What mmpretrain's ``CIFAR100`` has as ``train_list`` or ``test_list``.
    """
    folder = root / 'cifar-100-python'
    folder.mkdir(parents=True, exist_ok=True)
    content = dict(
        filenames=[f'{label}.png' for label in labels],
        batch_label=f'{split}ing batch 1 of 1',
        fine_labels=list(labels),
        coarse_labels=[label // 5 for label in labels],
        data=np.array([np.array(colour(label), np.uint8).repeat(1024) for label in labels]),
    )
    (folder / split).write_bytes(pickle.dumps(content, protocol=2))
    return [[split, hashlib.md5((folder / split).read_bytes()).hexdigest()]]
