# Copyright (c) MMMixPro contributors.
"""Losses that stay on the device until they are logged make the same logs and checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Dataset

from mmmixpro.engine import AsyncOptimWrapper


class CountReads(TorchDispatchMode):
    reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads += 'local_scalar_dense' in str(func)
        return func(*args, **(kwargs or {}))


@DATASETS.register_module()
class DeferredNoise(Dataset):
    """22 images of noise."""

    def __len__(self):
        return 22

    def __getitem__(self, index):
        image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))
        return dict(inputs=image, data_samples=DataSample().set_gt_label(index % 7))


@pytest.fixture
def train(tmp_path, classifier_cfg):
    """Train 11 iterations an epoch and return what was logged."""

    def train(name, by_epoch=True, **options):
        backbone = dict(
            type='VisionTransformer',
            arch=dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=32),
            img_size=32,
            patch_size=16,
        )
        checkpoint = dict(type='CheckpointHook', interval=1 if by_epoch else 4, by_epoch=by_epoch)
        cfg = dict(
            default_scope='mmpretrain',
            work_dir=str(tmp_path / name),
            model=classifier_cfg(backbone=backbone, augments=[dict(type='MixProBatchAugment', mask_size=16)]),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                dataset=dict(type='DeferredNoise'),
                sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=False),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=2) if by_epoch else dict(by_epoch=False, max_iters=22),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-2), clip_grad=dict(max_norm=1.0)),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=5), checkpoint=checkpoint),
            log_processor=dict(by_epoch=by_epoch),
            randomness=dict(seed=3),
            log_level='ERROR',
            # mmengine names its loggers after it and the second; two tests in one second must not share them.
            experiment_name=f'{tmp_path.name}_{name}',
        )
        cfg = Config(cfg)
        cfg.merge_from_dict(options)
        runner = Runner.from_cfg(cfg)
        with CountReads() as count:
            runner.train()
        (log,) = Path(cfg.work_dir).glob('*/vis_data/scalars.json')
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        keys = {'loss', 'grad_norm', 'lr', 'iter', 'epoch', 'step'}
        saved = torch.load(runner.train_loop.runner.message_hub.get_info('last_ckpt'), weights_only=False)
        return [{key: line[key] for key in keys & line.keys()} for line in lines], saved, count.reads

    return train


DEFERRED = {'default_hooks.runtime_info': dict(type='DeferredRuntimeInfoHook')}


@pytest.mark.parametrize('by_epoch', [True, False])
def test_same_logs_and_checkpoints_from_fewer_reads(by_epoch, train):
    expected, checkpoint, reads = train('stock', by_epoch)
    logs, deferred, fewer = train('deferred', by_epoch, **DEFERRED, **{'optim_wrapper.type': 'AsyncOptimWrapper'})
    assert len(logs) == 4
    assert {'loss', 'grad_norm'} <= logs[0].keys()
    assert logs == expected
    # The loss and the gradient norm of each step; the data loader's reads stay.
    assert reads - fewer == 2 * 22
    for key, history in checkpoint['message_hub']['log_scalars'].items():
        if 'time' not in key:
            assert history.data[0].tolist() == deferred['message_hub']['log_scalars'][key].data[0].tolist(), key
    for name, weight in checkpoint['state_dict'].items():
        assert torch.equal(weight, deferred['state_dict'][name])


def test_works_with_mmengines_optimizer_wrapper(train):
    expected, _, _ = train('stock')
    assert train('deferred', **DEFERRED)[0] == expected


def test_gradient_norms_while_gradients_accumulate(train):
    """One for each update, as mmengine's."""
    accumulate = {'optim_wrapper.accumulative_counts': 3}
    expected, checkpoint, _ = train('stock', **accumulate)
    logs, deferred, _ = train('deferred', **accumulate, **DEFERRED, **{'optim_wrapper.type': 'AsyncOptimWrapper'})
    assert logs == expected
    norms = [saved['message_hub']['log_scalars']['train/grad_norm'].data[0] for saved in (checkpoint, deferred)]
    assert norms[0].tolist() == norms[1].tolist()
    assert len(norms[0]) == 8


def wrapper(model, **kwargs):
    return AsyncOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), **kwargs)


def test_bfloat16_runs_under_autocast():
    model = torch.nn.Linear(4, 4)
    for dtype, expected in (('bfloat16', torch.bfloat16), (None, torch.float32)):
        with wrapper(model, dtype=dtype).optim_context(model):
            assert model(torch.randn(2, 4)).dtype == expected
    with torch.autocast('cpu', torch.bfloat16), wrapper(model).optim_context(model):
        assert model(torch.randn(2, 4)).dtype == torch.bfloat16  # None leaves it as it is


def test_clips_and_keeps_the_norm():
    model = torch.nn.Linear(4, 4)
    optim_wrapper = wrapper(model, clip_grad=dict(max_norm=0.5))
    before = model.weight.detach().clone()
    optim_wrapper.update_params(100 * model(torch.ones(1, 4)).sum())
    # 4 outputs, each with 4 inputs of one and a bias.
    torch.testing.assert_close(optim_wrapper.pop_grad_norm(), torch.tensor(100 * 20**0.5))
    assert optim_wrapper.pop_grad_norm() is None
    torch.testing.assert_close(before - model.weight, torch.full((4, 4), 0.1 * 0.5 / 20**0.5))


def test_other_precisions_are_refused():
    with pytest.raises(ValueError, match="'float16'.*AmpOptimWrapper"):
        wrapper(torch.nn.Linear(1, 1), dtype='float16')
