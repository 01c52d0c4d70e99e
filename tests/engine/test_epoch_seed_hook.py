# Copyright (c) MMMixPro contributors.
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mmmixpro.engine.hooks import EpochSeedHook, seed_worker


class Draws(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])


def draws(seed, iteration, rank=0):
    """What the workers of an epoch and the main process draw."""
    EpochSeedHook()._seed(SimpleNamespace(seed=seed, rank=rank), iteration)
    loader = DataLoader(Draws(), num_workers=2, worker_init_fn=seed_worker)
    return torch.cat([*loader, torch.tensor([[random.random(), np.random.rand(), torch.rand(())]])])


def test_draws_are_those_of_seed_iteration_and_rank():
    first = draws(0, 8)

    torch.testing.assert_close(draws(0, 8), first, rtol=0, atol=0)
    for other in (draws(1, 8), draws(0, 16), draws(0, 8, rank=1)):
        assert not (other == first).any()


@pytest.fixture
def runner():
    """As much of a runner as the hook looks at before it trains."""

    def runner(seed=0, **loader):
        cfg = dict(dataset=Draws(), sampler=dict(type='DefaultSampler', shuffle=False), num_workers=2)
        collate = dict(type='default_collate')
        warnings = []
        return SimpleNamespace(
            train_dataloader=Runner.build_dataloader(dict(cfg, collate_fn=collate, **loader), seed=0),
            train_loop=None,
            cfg=dict(randomness=dict(seed=seed)),
            logger=SimpleNamespace(warning=warnings.append),
            warnings=warnings,
        )

    return runner


def test_mmengine_would_draw_the_same_in_each_epoch(runner):
    """Why the hook replaces mmengine's seeding of workers."""
    runner = runner()
    first = torch.stack(list(runner.train_dataloader))
    again = torch.stack(list(runner.train_dataloader))
    torch.testing.assert_close(again, first, rtol=0, atol=0)

    EpochSeedHook().before_train(runner)
    assert not (torch.stack(list(runner.train_dataloader)) == first).any()
    assert not runner.warnings


def test_own_seeding_of_workers_is_kept(runner):
    runner = runner(worker_init_fn=dict(type=print))
    init_fn = runner.train_dataloader.worker_init_fn
    EpochSeedHook().before_train(runner)
    assert runner.train_dataloader.worker_init_fn is init_fn


@pytest.mark.parametrize(
    ('options', 'mend'),
    [(dict(persistent_workers=True), 'Set it to False'), (dict(seed=None), 'randomness=dict')],
)
def test_what_a_resumed_run_would_not_repeat_is_warned_of(runner, options, mend):
    runner = runner(**options)
    EpochSeedHook().before_train(runner)
    (line,) = runner.warnings
    assert 'A resumed run will differ' in line
    assert mend in line


def test_iterations_without_a_sampler_that_skips_are_warned_of(runner):
    runner = runner()
    runner.train_loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    runner.train_loop.dataloader_iterator = SimpleNamespace(skip_iter=None)
    runner.train_loop.dataloader = runner.train_dataloader
    EpochSeedHook().before_train(runner)
    (line,) = runner.warnings
    assert 'InfiniteSampler' in line
