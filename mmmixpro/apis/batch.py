# Copyright (c) MMMixPro contributors.
"""A trained classifier and some images to show what it does with them."""

import argparse
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import default_collate
from mmpretrain.models import BaseClassifier
from mmpretrain.registry import DATASETS
from torch import Tensor

from mmmixpro.engine.preflight import check_data_paths
from mmmixpro.visualization.arguments import add_out, check_arguments
from mmmixpro.visualization.mixed import random_state

from .model import get_model


class Batch(NamedTuple):
    """Images of one mini-batch, and who looks at them.

    Attributes:
        classifier: In eval mode.
        images: ``(N, 3, H, W)``, as its data preprocessor returns them.
        labels: ``(N,)`` int64 class indices.
        classes: Names of all classes.
        in_memory: Whether the data set brings its images along, in RGB, as CIFAR does; those of files come in BGR.
    """

    classifier: BaseClassifier
    images: Tensor
    labels: Tensor
    classes: list[str]
    in_memory: bool


def parse_batch_arguments(description: str | None, num: int, out: str) -> argparse.Namespace:
    """What :func:`load_batch` takes and ``--out``, from the command line.

    Args:
        description: Of the tool.
        num: Images by default.
        out: File by default.

    Raises:
        ValueError: If ``--out`` has another ending than those of drawings.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of a classifier that mixes')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--num', type=int, default=num, help='images; default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='of images and masks; default: %(default)s')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='settings that override those of the config'
    )
    add_out(parser, out)
    args = parser.parse_args()
    check_arguments(args)
    return args


def load_batch(args: argparse.Namespace, dataloader: str) -> Batch:
    """Load a classifier, and draw images for it.

    Args:
        args: See :func:`parse_batch_arguments`.
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
    in_memory = 'img' in dataset.get_data_info(0)
    return Batch(classifier, data['inputs'], labels, list(classes), in_memory)
