#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""What mmengine's runner adds to a training step: the same model and mixing in a bare PyTorch loop beside it.

python benchmarks/runner_overhead.py                                                 # DeiT-T, 4 minutes on 2 cores
python benchmarks/runner_overhead.py --config configs/demo/deit_shapes.py --image-size 64 --batch-size 128
python benchmarks/runner_overhead.py --device cuda --config configs/mixpro/deit-s_8xb128_in1k.py --batch-size 128

Three ways to run one config, each in a runner with all its hooks, from a collated batch to the
optimizer's update: mmpretrain's data preprocessor and mmengine's hooks (``stock``), the data
preprocessor of MixClassifier (``ours``), and with losses left on the device until they are logged and
few groups of parameters (``deferred``, as in the _fast files of configs/_base_/). Blocks of steps alternate
with blocks of the bare loop. Evaluation, checkpoints and data loading are left out.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import (
    ROOT,
    build_classifier,
    common_arguments,
    interleave,
    label_batches,
    print_table,
    ratios,
    save,
    spread,
)
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmpretrain.registry import DATASETS, LOOPS
from mmpretrain.structures import DataSample
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

WARMUP = 2
WAYS: dict[str, dict] = dict(
    stock={'data_preprocessor.type': 'ClsDataPreprocessor', 'optim_wrapper.type': 'OptimWrapper'},
    ours={'optim_wrapper.type': 'OptimWrapper'},
    deferred={
        'optim_wrapper.type': 'AsyncOptimWrapper',
        'optim_wrapper.constructor': 'MergedOptimWrapperConstructor',
        'default_hooks.runtime_info': dict(type='DeferredRuntimeInfoHook'),
    },
)


@DATASETS.register_module()
class NoiseImages(Dataset):
    """As many uint8 images of noise as a benchmark takes, one in memory."""

    def __init__(self, num: int, image_size: int, num_classes: int):
        self.metainfo = dict(classes=[str(label) for label in range(num_classes)])
        self.image = torch.randint(0, 256, (3, image_size, image_size), dtype=torch.uint8)
        self.num, self.num_classes = num, num_classes

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.image, data_samples=DataSample().set_gt_label(index % self.num_classes))


@LOOPS.register_module()
class PairedLoop(EpochBasedTrainLoop):
    """A training loop that takes turns with a bare one and times both."""

    def __init__(self, runner: Runner, dataloader: dict, settings: argparse.Namespace, **kwargs: Any):
        super().__init__(runner, dataloader, **kwargs)
        self.settings = settings

    def run(self) -> nn.Module:
        settings = self.settings
        bare = bare_step(self.runner.cfg, torch.device(settings.device), settings.seed)
        for point in ('before_train', 'before_train_epoch'):
            self.runner.call_hook(point)
        self.runner.model.train()
        images = next(iter(self.dataloader))['inputs']
        if settings.device != 'cpu':
            images = images.pin_memory()
        num_classes, count = self.runner.cfg.model.head.num_classes, settings.block * (settings.rounds + WARMUP)
        labels = label_batches(len(images), num_classes, 2 * count)
        iterations = iter(range(count))

        def runner_block() -> None:
            for _ in range(settings.block):
                self.run_iter(next(iterations), dict(inputs=images, data_samples=next(labels)))

        def bare_block() -> None:
            for _ in range(settings.block):
                bare(dict(inputs=images, data_samples=next(labels)))

        self.times = interleave(dict(runner=runner_block, bare=bare_block), settings.rounds, WARMUP, settings.seed)
        return self.runner.model


def bare_step(cfg: Config, device: torch.device, seed: int) -> Callable[[dict], None]:
    """Normalise, mix, forward, backward, clip, update, and nothing else."""
    model: Any = build_classifier(cfg, device, seed)
    settings = cfg.optim_wrapper.optimizer
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    num_classes = model.head.num_classes

    def step(batch: dict) -> None:
        images = batch['inputs'].to(device, non_blocking=True).flip(1).float().sub_(mean).div_(std)
        labels = torch.cat([sample.gt_label for sample in batch['data_samples']]).to(device, non_blocking=True)
        model.loss(images, F.one_hot(labels, num_classes).float())['loss'].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def run(args: argparse.Namespace, options: dict, work_dir: str) -> dict:
    """One way to run the config, beside the bare loop."""
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(options)
    num_classes = cfg.model.head.num_classes
    num = (args.rounds + WARMUP + 1) * args.block * args.batch_size  # an epoch that does not end
    cfg.train_dataloader = dict(
        batch_size=args.batch_size,
        num_workers=0,
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='NoiseImages', num=num, image_size=args.image_size, num_classes=num_classes),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    cfg.train_cfg = dict(type='PairedLoop', max_epochs=cfg.train_cfg.max_epochs, settings=args)
    for name in ('val', 'test'):
        cfg[f'{name}_dataloader'] = cfg[f'{name}_cfg'] = cfg[f'{name}_evaluator'] = None
    cfg.default_hooks.checkpoint = None
    cfg.work_dir, cfg.log_level = work_dir, 'ERROR'
    cfg.experiment_name = Path(work_dir).name  # mmengine shares what has the same name
    runner = Runner.from_cfg(cfg)
    runner.train()
    times = runner.train_loop.times
    per_step = {name: spread([value / args.block for value in values]) for name, values in times.items()}
    return dict(seconds=per_step, ratio=ratios(times, 'bare')['runner'], times=times)


def main() -> None:
    parser = common_arguments(__doc__)
    parser.add_argument(
        '--config',
        default=ROOT / 'configs/mixpro/deit-t_8xb128_in1k.py',
        type=Path,
        help='of a method with attention labels, not a fast one; default: %(default)s',
    )
    parser.add_argument('--image-size', type=int, default=224)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--block', type=int, default=2, help='steps that are timed together')
    parser.add_argument('--rounds', type=int, default=12)
    args = parser.parse_args()
    config = os.path.relpath(args.config, ROOT)
    rows = []
    for way, options in WAYS.items():
        with tempfile.TemporaryDirectory() as work_dir:
            rows.append(dict(way=way, **run(args, options, work_dir)))
    print_table(
        f'{config}, batch {args.batch_size}, {args.image_size} px',
        [
            {
                'runner': row['way'],
                'step, ms': f'{1e3 * row["seconds"]["runner"]["median"]:.1f}',
                'bare, ms': f'{1e3 * row["seconds"]["bare"]["median"]:.1f}',
                'runner / bare': '{median:.3f} [{q1:.3f}, {q3:.3f}]'.format(**row['ratio']),
            }
            for row in rows
        ],
    )
    settings = dict(config=config, image_size=args.image_size, batch_size=args.batch_size, block=args.block)
    save(args, dict(**settings, rows=rows))


if __name__ == '__main__':
    main()
