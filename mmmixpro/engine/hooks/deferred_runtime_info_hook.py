# Copyright (c) MMMixPro contributors.
from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from mmengine.utils import apply_to
from mmpretrain.registry import HOOKS
from torch import Tensor

from mmmixpro.engine.optim_wrapper import AsyncOptimWrapper


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook`` that leaves losses on the device until they are logged.

    mmengine's reads each loss in each step, which makes the host wait for the device. This one reads
    all that has gathered at once, when the ``LoggerHook`` is about to log, at the end of the epoch
    and when a checkpoint is saved, so that all but the times in logs and checkpoints is the same. In
    between, the message hub does not know the latest losses: leave mmengine's hook in place where another hook
    reads them in every step. Goes in its place: ``default_hooks=dict(runtime_info=dict(type=...))``.
    """

    def before_run(self, runner: Runner) -> None:
        """Find out when to read."""
        super().before_run(runner)
        self._pending: list[tuple[str, Any]] = []
        self._intervals = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Keep the losses of a step, and the gradient norm where the optimizer wrapper left it."""
        values = dict(outputs or {})
        if isinstance(runner.optim_wrapper, AsyncOptimWrapper):
            values['grad_norm'] = runner.optim_wrapper.pop_grad_norm()
        for name, value in values.items():
            if value is not None:
                # Without its graph, which would live on with it.
                self._pending.append((f'train/{name}', value.detach() if isinstance(value, Tensor) else value))
        if self.end_of_epoch(runner.train_dataloader, batch_idx) or any(
            self.every_n_inner_iters(batch_idx, interval) for interval in self._intervals
        ):
            self._read(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the losses of all steps; on the host, as the runner does."""
        self._read(runner)
        state = runner.message_hub.state_dict()
        checkpoint['message_hub'] = apply_to(state, lambda value: hasattr(value, 'cpu'), lambda value: value.cpu())

    def _read(self, runner: Runner) -> None:
        # All in one copy.
        tensors = [value for _, value in self._pending if isinstance(value, Tensor)]
        gathered = [tensor.to(tensors[0].device, torch.float32).reshape(()) for tensor in tensors]
        read = iter(torch.stack(gathered).tolist() if gathered else [])
        for name, value in self._pending:
            runner.message_hub.update_scalar(name, next(read) if isinstance(value, Tensor) else value)
        self._pending.clear()
