#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Test a classifier, segmentor or detector.

python tools/test.py configs/mixpro/deit-s_8xb128_in1k.py work_dirs/.../epoch_300.pth
"""

import argparse
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine import Config, ConfigDict, dump
from mmengine.dist import is_main_process
from torch.distributed.elastic.multiprocessing.errors import record

import mmmixpro  # noqa: F401  (first: `mmmixpro::` in a config resolves once it is imported)
from mmmixpro.engine.launch import add_arguments, build_runner, load_config
from mmmixpro.engine.loading import load_whole_model

# How each library's visualization hook is told to draw, and where to.
SHOW = dict(
    mmpretrain=('default_hooks.visualization.enable', 'default_hooks.visualization.out_dir'),
    mmseg=('default_hooks.visualization.draw', 'visualizer.save_dir'),
    mmdet=('default_hooks.visualization.draw', 'default_hooks.visualization.test_out_dir'),
)
# mmdet's encodes masks; as they are, those of COCO's validation images take hundreds of GB.
DUMP = dict(mmpretrain='DumpResults', mmseg='DumpResults', mmdet='DumpDetResults')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='write metrics (.json) or predictions (.pkl) to this file')
    parser.add_argument('--show-dir', help='draw the predictions into this folder')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_arguments(parser)
    return parser.parse_args()


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Set in the config what the command line asks for."""
    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f"Expected a checkpoint, found no '{args.checkpoint}'.")
    cfg.load_from = args.checkpoint
    scope = cfg.get('default_scope')
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show_dir:
        switch, folder = SHOW[scope]
        drawn = Path(args.show_dir).resolve()
        cfg.merge_from_dict({switch: True, folder: str(drawn), 'default_hooks.visualization.interval': 1})
    if args.tta:
        use_tta(cfg)
    if args.out and not args.out.endswith(('.json', '.pkl')):
        raise ValueError(f"--out takes a .json (metrics) or .pkl (predictions), got '{args.out}'.")
    if args.out and args.out.endswith('.pkl'):
        metrics = cfg.test_evaluator
        metrics = metrics if isinstance(metrics, list) else [metrics]
        cfg.test_evaluator = [*metrics, dict(type=DUMP[scope], out_file_path=args.out)]


def use_tta(cfg: Config) -> None:
    """Wrap the model for test-time augmentation: a classifier sees each image and its mirror."""
    dataset = cfg.test_dataloader.dataset
    if 'pipeline' not in dataset:
        raise ValueError(f'--tta sets the pipeline of the test set, and {dataset.type} has none. Test without it.')
    if cfg.get('default_scope') == 'mmpretrain':
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        *pipeline, pack = deepcopy(dataset.pipeline)
        both = dict(type='TestTimeAug', transforms=[flips, [pack]])
        cfg.setdefault('tta_model', dict(type='AverageClsScoreTTA'))
        cfg.setdefault('tta_pipeline', [*pipeline, both])
    missing = {'tta_model', 'tta_pipeline'} - set(cfg)
    if missing:
        raise ValueError(f'--tta needs {sorted(missing)}, which the config does not define.')
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


@record  # torchrun's report names the error
def main() -> None:
    args = parse_args()
    cfg = load_config(args, ('test_dataloader',))
    merge_args(cfg, args)
    runner = build_runner(cfg)
    runner.load_checkpoint = partial(load_whole_model, runner)
    metrics = runner.test()
    if args.out and args.out.endswith('.json') and is_main_process():
        dump(metrics, args.out)


if __name__ == '__main__':
    main()
