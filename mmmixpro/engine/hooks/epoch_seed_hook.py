# Copyright (c) MMMixPro contributors.
import random
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dataset import worker_init_fn as mmengine_worker_init_fn
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import IterBasedTrainLoop, Runner, set_random_seed
from mmpretrain.registry import HOOKS

from mmmixpro.utils.stacks import can_skip


def seed_worker(worker_id: int) -> None:
    """Seed a data loading worker from the seed that torch drew for it when the epoch began.

    mmengine's own ``worker_init_fn`` gives a worker the same seed in every epoch, so that the n-th
    image of each epoch would meet the same augmentation.
    """
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Make a resumed run equal to the uninterrupted one, bit for bit.

    mmengine saves no random state. This hook seeds Python, NumPy and torch at each point where a
    run may be taken up again, from the run's seed, the iteration and the rank: at the start of each
    epoch, and in iteration-based loops at each checkpoint. There it also restarts the data loader,
    for what its workers had prefetched, and with which random state, is not in the checkpoint.

    Bitwise equality takes a fixed seed (``randomness=dict(seed=0, diff_rank_seed=True)``), training
    workers that end with the epoch (``persistent_workers=False``), as many ranks as before, and on
    GPUs ``randomness.deterministic=True``. Gradients that accumulate across a checkpoint are lost.
    """

    # After all others, so that none of them draws between the seeding and the first batch.
    priority = 'LOWEST'
    _saves: CheckpointHook | None = None

    def before_train(self, runner: Runner) -> None:
        """Take over the workers' seeding, and warn of what makes a resumed run differ."""
        loader = runner.train_dataloader
        init_fn = loader.worker_init_fn
        if isinstance(init_fn, partial) and init_fn.func is mmengine_worker_init_fn:
            loader.worker_init_fn = seed_worker
        if loader.persistent_workers:
            runner.logger.warning(
                'A resumed run will differ from an uninterrupted one: with '
                'train_dataloader.persistent_workers=True workers carry their random state over '
                'from epoch to epoch. Set it to False.'
            )
        if runner.cfg.get('randomness', {}).get('seed') is None:
            runner.logger.warning(
                'A resumed run will differ from an uninterrupted one: without a seed it shuffles '
                'otherwise. Set randomness=dict(seed=0, diff_rank_seed=True).'
            )
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            self._saves = self._restart_points(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed an epoch or, in an iteration-based loop, a run that begins or is taken up again."""
        self._seed(runner, runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Let an iteration-based loop go on from a checkpoint just as a resumed run would."""
        saves = self._saves
        if saves and self.every_n_train_iters(runner, saves.interval, saves.save_begin):
            runner.train_loop.dataloader_iterator.skip_iter(runner.iter + 1)
            self._seed(runner, runner.iter + 1)

    def after_val(self, runner: Runner) -> None:
        """Seed again: a run resumed from the checkpoint before this validation skipped it."""
        if self._saves:
            self._seed(runner, runner.iter)

    @staticmethod
    def _seed(runner: Runner, iteration: int) -> None:
        seed = np.random.SeedSequence([runner.seed, iteration, runner.rank]).generate_state(1)
        set_random_seed(int(seed[0]))

    @staticmethod
    def _restart_points(runner: Runner) -> CheckpointHook | None:
        """The hook that saves by iteration, if the loop can go on from any iteration."""
        if not can_skip(runner.train_loop):
            runner.logger.warning(
                'A resumed run will differ from an uninterrupted one: it takes '
                "train_dataloader.sampler=dict(type='InfiniteSampler') to go on from the same image."
            )
            return None
        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        return next((hook for hook in hooks if not hook.by_epoch and hook.interval > 0), None)
