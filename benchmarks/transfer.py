#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Small study: what a MixPro checkpoint gives to segmentation and detection, against training from scratch.

python benchmarks/transfer.py --data data/real    # about two hours on 2 cores

Pretrains the demo's small DeiT and PVT with MixPro on all 64 classes of Tiny ImageNet, then trains a Segmenter and a
linear decoder on CamVid (three seeds), and Mask R-CNN on people in COCO (one seed): from the checkpoint; from scratch
as the pretraining starts; and from scratch narrower (deviation 0.02), which suits this small DeiT better. Data order,
schedule and learning rate are the same for all three; what counts is the last checkpoint. Each run is a tools/train.py
on a config that it writes into its folder of the work directory; one that has a result of the same settings, and the
same checkpoint to start from, is not repeated. Detection takes four times the demo's epochs, which are too few to tell
anything.

The learning rates are the demo's, chosen on these validation images (see README): the figures say how the three
compare there, not how good any of them is.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import ROOT, common_arguments, print_table, save
from mmengine.config import Config

# Of a pretraining: config, epochs, and the deviation that its weights are drawn with.
PRETRAIN = dict(deit=('deit_real.py', 6, 0.06), pvt=('pvt_real.py', 6, 0.02))
PRETRAIN_SEED = 0
# Of a task: config, what is changed in it, pretraining, metrics, and whether it takes all seeds.
TASKS: dict[str, tuple[str, dict, str, list[str], bool]] = dict(
    segmenter=('segmenter_deit_real.py', {}, 'deit', ['mIoU'], True),
    linear=('linear_deit_real.py', {}, 'deit', ['mIoU'], True),
    mask_rcnn=(
        'mask-rcnn_pvt_real.py',
        dict(train_cfg=dict(max_epochs=24, val_interval=6)),
        'pvt',
        ['coco/bbox_mAP', 'coco/segm_mAP'],
        False,
    ),
)
NARROW = 0.02


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_arguments(None)],
        conflict_handler='resolve',
    )
    parser.add_argument('--seeds', '--seed', dest='seed', type=int, nargs='+', default=[0, 1, 2], metavar='SEED')
    parser.add_argument('--data', type=Path, required=True, help='folder with tinyimagenet64c, camvid and coco_mini')
    parser.add_argument('--tasks', nargs='+', choices=TASKS, default=list(TASKS))
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/transfer')
    return parser.parse_args()


def run(name: str, base: str, changes: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Train, or take what an earlier call has trained: what each validation measured, the last one last."""
    folder = args.work_dir.resolve() / name
    folder.mkdir(parents=True, exist_ok=True)
    config, result = folder / 'config.py', folder / 'result.json'
    config.write_text(
        f'_base_ = {str(ROOT / "configs/demo" / base)!r}\n'
        + ''.join(f'{key} = {value!r}\n' for key, value in changes.items())
    )
    settings = all_settings(config)
    if not result.is_file() or json.loads(result.read_text())['settings'] != settings:
        text = config.read_text()
        shutil.rmtree(folder)
        folder.mkdir()
        config.write_text(text)
        print(name, flush=True)
        command = [sys.executable, str(ROOT / 'tools/train.py'), str(config), '--work-dir', str(folder)]
        with (folder / 'console.log').open('w') as log:
            env = os.environ | dict(REAL_ROOT=str(args.data.resolve()))
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=env).returncode:
                raise SystemExit(f'{name} failed. Its output: {log.name}. What is finished is kept: run this again.')
        result.write_text(json.dumps(dict(settings=settings, validations=validations(folder))))
    return dict(config=f'configs/demo/{base}', validations=json.loads(result.read_text())['validations'])


def all_settings(config: Path) -> dict[str, Any]:
    """A config with all that it inherits, and a sum of the checkpoint that its backbone starts from."""
    cfg = Config.fromfile(config)
    init_cfg = cfg.model.backbone.get('init_cfg') or {}
    checkpoint = init_cfg.get('checkpoint') if isinstance(init_cfg, dict) else None
    digest = checkpoint and hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    return dict(json.loads(json.dumps(cfg.to_dict(), default=str)), checkpoint_sha256=digest)


def validations(folder: Path) -> list[dict[str, float]]:
    (log,) = folder.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.endswith('time')} for line in lines if 'loss' not in line
    ]


def pretrain(name: str, args: argparse.Namespace) -> dict[str, Any]:
    base, epochs, _ = PRETRAIN[name]
    changes = dict(
        model=dict(head=dict(num_classes=64)),
        data_preprocessor=dict(num_classes=64),
        train_cfg=dict(max_epochs=epochs),
        randomness=dict(seed=PRETRAIN_SEED),
    )
    return run(f'pretrain-{name}', base, changes, args)


def starts(pretraining: str, args: argparse.Namespace) -> dict[str, dict | list]:
    """What the backbone begins with, by the name of the way: its ``init_cfg``."""
    checkpoint = (args.work_dir.resolve() / f'pretrain-{pretraining}' / 'last_checkpoint').read_text().strip()
    deviations = {'scratch': PRETRAIN[pretraining][2], 'scratch, narrow': NARROW}
    if deviations['scratch'] == NARROW:
        del deviations['scratch, narrow']
    ways: dict[str, dict | list] = dict(MixPro=dict(checkpoint=checkpoint))
    for way, deviation in deviations.items():
        ways[way] = [
            dict(type='TruncNormal', layer='Linear', std=deviation, bias=0.0),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ]
    return ways


def main() -> None:
    args = parse_args()
    missing = [pack for pack in ('tinyimagenet64c', 'camvid', 'coco_mini') if not (args.data / pack).is_dir()]
    if missing:
        raise SystemExit(
            f'--data {args.data}: expected the folders tinyimagenet64c, camvid and coco_mini, no {missing}.'
        )
    names = dict.fromkeys(TASKS[task][2] for task in args.tasks)
    pretrainings = {name: pretrain(name, args) for name in names}
    runs, rows = [], []
    for task in args.tasks:
        base, settings, pretraining, metrics, all_seeds = TASKS[task]
        for way, init_cfg in starts(pretraining, args).items():
            found = []
            for seed in args.seed if all_seeds else args.seed[:1]:
                changes = dict(settings, model=dict(backbone=dict(init_cfg=init_cfg)), randomness=dict(seed=seed))
                done = run(f'{task}-{way.replace(", ", "-").lower()}-{seed}', base, changes, args)
                found.append(done['validations'][-1])
                runs.append(dict(task=task, start=way, seed=seed, metrics=metrics, **done))
                save(args, dict(pretrainings=pretrainings, pretraining_seed=PRETRAIN_SEED, runs=runs))
            rows += [row(task, way, metric, [values[metric] for values in found]) for metric in metrics]
    print_table('Last checkpoint, on validation images', rows)


def row(task: str, way: str, metric: str, values: list[float]) -> dict[str, str]:
    # mmdet counts to 1, mmseg to 100.
    percent = [100 * value for value in values] if metric.startswith('coco') else values
    spread = f' ± {statistics.stdev(percent):.1f}' if len(percent) > 1 else ''
    mean = f'{statistics.mean(percent):.1f}{spread}'
    return dict(task=task, start=way, metric=metric, mean=mean, seeds=str(len(percent)))


if __name__ == '__main__':
    main()
