# Copyright (c) MMMixPro contributors.
"""A trained classifier and some images to show what it does with them."""

import argparse

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import default_collate
from mmpretrain.models import BaseClassifier
from mmpretrain.registry import DATASETS
from torch import Tensor

from mmmixpro.apis import get_model
from mmmixpro.engine.preflight import check_data_paths

from .mixed import random_state


def add_batch_arguments(parser: argparse.ArgumentParser, num: int) -> None:
    """Add what :func:`load_batch` takes, ``num`` images by default."""
    parser.add_argument('config', help='config file of a classifier that mixes')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--num', type=int, default=num, help='images; default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='of images and masks; default: %(default)s')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='settings that override those of the config'
    )


def load_batch(args: argparse.Namespace, dataloader: str) -> tuple[BaseClassifier, Tensor, Tensor, list[str]]:
    """The classifier, images ``(N, 3, H, W)`` as it is given them, their labels ``(N,)`` and the names of all classes.

    Args:
        args: See :func:`add_batch_arguments`.
        dataloader: Whose images to take, at random.

    Raises:
        FileNotFoundError: If the checkpoint or the data are missing.
        ValueError: If the checkpoint does not fit, or if there are fewer images.
    """
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    if args.num < 2:
        raise ValueError(f'--num takes a number of images, at least 2, to mix them; got {args.num}.')
    check_data_paths(cfg, (dataloader,))
    classifier = get_model(cfg, args.checkpoint)
    dataset = DATASETS.build(cfg[dataloader].dataset)
    if len(dataset) < args.num:
        raise ValueError(f'--num: expected {args.num} images in {dataloader}, found {len(dataset)}.')
    with random_state(args.seed):
        chosen = np.random.choice(len(dataset), args.num, replace=False)
        samples = default_collate([dataset[int(i)] for i in chosen])
    data = classifier.data_preprocessor(samples)
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
    classes = dataset.metainfo.get('classes') or [str(i) for i in range(classifier.data_preprocessor.num_classes)]
    return classifier, data['inputs'], labels, list(classes)
