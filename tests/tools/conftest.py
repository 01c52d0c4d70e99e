# Copyright (c) MMMixPro contributors.
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import globals_of_mmengine
import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
_base_ = '{root}/configs/_base_/default_runtime.py'
custom_imports = dict(imports=['mmmixpro', 'probe'], allow_failed_imports=False)
custom_hooks = [dict(type='ProbeHook')]
default_hooks = dict(logger=dict(interval=1))
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
model = dict(
    type='PALClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
        drop_path_rate=0.2),
    head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16),
    train_cfg=dict(
        augments=[dict(type='MixProBatchAugment', mask_size=8), dict(type='Mixup', alpha=0.8)],
        probs=[0.8, 0.2]))
data_root = '{{{{$TINY_ROOT:nowhere}}}}'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=32),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32)),
    dict(type='PackInputs'),
]
# Serialising collects garbage, which takes seconds within pytest.
dataset = dict(type='CustomDataset', data_root=data_root, serialize_data=False)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(**dataset, data_prefix='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(**dataset, data_prefix='val', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy')
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-2))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=1024)
"""

ITERATIONS = """
_base_ = 'tiny.py'
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4))
train_dataloader = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False)]
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=12, val_interval=4)
log_processor = dict(by_epoch=False)
"""

# Writes down what a rank did; after a given iteration it stops, or waits to be killed.
PROBE = """
import os
import time
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class ProbeHook(Hook):
    def before_train(self, runner):
        model = getattr(runner.model, 'module', runner.model)
        self.masks = []
        for mixer in getattr(model, 'mixers', []):
            self.watch(mixer)

    def watch(self, mixer):
        draw = mixer.draw

        def drawn(*args):
            plan = draw(*args)
            self.masks.append(plan.mask.clone())
            return plan

        mixer.draw = drawn

    def after_train_iter(self, runner, batch_idx, data_batch, *args, **kwargs):
        names = [Path(sample.img_path).stem for sample in data_batch['data_samples']]
        with Path(runner.work_dir, f'seen{runner.rank}.txt').open('a') as seen:
            print(runner.iter, *names, file=seen)
        if runner.iter == int(os.environ.get('STOP_AT', -1)):
            raise KeyboardInterrupt
        if runner.iter == int(os.environ.get('WAIT_AT', -1)):
            Path(runner.work_dir, f'waiting{runner.rank}').write_text(str(os.getpid()))
            time.sleep(500)

    def after_train(self, runner):
        model = getattr(runner.model, 'module', runner.model)
        seen = dict(masks=self.masks, weights=model.state_dict(), world_size=runner.world_size)
        torch.save(seen, Path(runner.work_dir, f'rank{runner.rank}.pt'))
"""


class Tiny:
    """A classification run of 3 epochs, 8 iterations each on one rank, 4 on two; and one of 12
    iterations."""

    def __init__(self, folder: Path):
        self.folder, self.root = folder, ROOT
        self.config = folder / 'configs' / 'tiny.py'
        self.config.parent.mkdir()
        self.config.write_text(CONFIG.format(root=ROOT))
        self.iterations = folder / 'configs' / 'iterations.py'
        self.iterations.write_text(ITERATIONS)
        (folder / 'probe.py').write_text(PROBE)
        rng = np.random.default_rng(0)
        for split, num in dict(train=16, val=2).items():
            for name in 'ab':
                images = folder / 'data' / split / name
                images.mkdir(parents=True)
                for i in range(num):
                    pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(images / f'{name}{i}.png')

    def start(self, *args, config=None, ranks=None, **env):
        """Start tools/train.py, or tools/dist_train.sh with ``ranks``, far from the checkout."""
        config = config or self.config
        command = [sys.executable, ROOT / 'tools' / 'train.py', config]
        if ranks:
            command = [ROOT / 'tools' / 'dist_train.sh', config, str(ranks)]
        return subprocess.Popen(
            [str(part) for part in [*command, *args]],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                'OMP_NUM_THREADS': '1',
                'CUDA_VISIBLE_DEVICES': '',
                'PYTHON': sys.executable,
                'PYTHONPATH': str(self.folder),
                'TINY_ROOT': str(self.folder / 'data'),
                **env,
            },
        )

    def run(self, *args, code=0, **kwargs):
        """Run :meth:`start` to its end and return what it printed."""
        process = self.start(*args, **kwargs)
        output, _ = process.communicate(timeout=500)
        assert process.returncode == code, output
        return output

    def tool(self, name, *args):
        """Run a tool within this process, which is faster."""
        argv = [str(ROOT / 'tools' / name), *(str(arg) for arg in args)]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.syspath_prepend(self.folder)
            patch.setattr(sys, 'argv', argv)
            patch.setenv('TINY_ROOT', str(self.folder / 'data'))
            patch.delenv('LOCAL_RANK', raising=False)
            globals_of_mmengine.forget(patch)
            runpy.run_path(argv[0], run_name='__main__')

    def kill_at(self, iteration, work_dir, *args, ranks=None, **kwargs):
        """Start a training and ``kill -9`` it, launcher and all ranks, after an iteration."""
        waiting = [self.folder / work_dir / f'waiting{rank}' for rank in range(ranks or 1)]
        for path in waiting:
            path.unlink(missing_ok=True)
        process = self.start('--work-dir', work_dir, *args, ranks=ranks, WAIT_AT=str(iteration), **kwargs)
        deadline = time.monotonic() + 500
        while not all(path.is_file() and path.read_text() for path in waiting):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, 'never reached the iteration'
            time.sleep(0.02)
        for pid in {process.pid, *(int(path.read_text()) for path in waiting)}:
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=30)

    def checkpoint(self, name):
        return torch.load(self.folder / name, weights_only=False)

    def weights(self, name):
        return self.checkpoint(name)['state_dict']


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp('tiny'))
