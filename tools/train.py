#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Train a classifier, segmentor or detector.

python tools/train.py configs/mixpro/deit-s_8xb128_in1k.py
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine import Config
from torch.distributed.elastic.multiprocessing.errors import record

import mmmixpro  # noqa: F401  (first: `mmmixpro::` in a config resolves once it is imported)
from mmmixpro.engine.launch import (
    add_arguments,
    build_runner,
    latest_checkpoint,
    load_config,
)
from mmmixpro.engine.loading import load_to_resume, load_whole_model


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from a checkpoint; without a file, from the last one in the work folder',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the total batch size over auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='let the workers of every dataloader end with the epoch',
    )
    add_arguments(parser)
    return parser.parse_args()


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Set in the config what the command line asks for."""
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        if cfg.optim_wrapper.get('dtype') == 'bfloat16':
            raise ValueError('--amp: this config trains in bfloat16 already (optim_wrapper.dtype). Leave --amp out.')
        if cfg.optim_wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise ValueError(
                f"--amp makes an AmpOptimWrapper of an OptimWrapper, got '{cfg.optim_wrapper.type}'"
                '. Set optim_wrapper.type in the config instead.'
            )
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ValueError(
                '--auto-scale-lr needs the batch size that the learning rate is made for: set '
                'auto_scale_lr=dict(base_batch_size=...) in the config.'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume:
        found = latest_checkpoint(cfg.work_dir) if args.resume == 'auto' else args.resume
        if found and not Path(found).is_file():
            raise FileNotFoundError(f"--resume: expected a checkpoint, found no '{found}'.")
        # Where there is nothing yet to go on from, a run begins as its config says.
        cfg.resume = bool(found)
        cfg.load_from = found or cfg.get('load_from')


@record  # torchrun's report names the error
def main() -> None:
    args = parse_args()
    loaders = ('train_dataloader',) if args.no_validate else ('train_dataloader', 'val_dataloader')
    cfg = load_config(args, loaders)
    merge_args(cfg, args)
    runner = build_runner(cfg)
    runner.load_checkpoint = partial(load_to_resume if cfg.get('resume') else load_whole_model, runner)
    runner.train()


if __name__ == '__main__':
    main()
