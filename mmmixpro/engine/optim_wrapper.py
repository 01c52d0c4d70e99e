# Copyright (c) MMMixPro contributors.
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmpretrain.registry import OPTIM_WRAPPERS
from torch import Tensor, nn


@OPTIM_WRAPPERS.register_module()
class AsyncOptimWrapper(OptimWrapper):
    """mmengine's ``OptimWrapper`` that never waits for the device, in bfloat16 where asked for.

    mmengine's reads the gradient norm in every step, for the log; here it stays on the device until
    :class:`DeferredRuntimeInfoHook` logs it, without which it is not logged. Bfloat16 spans float32's
    range, so it takes no loss scaling, which ``AmpOptimWrapper`` does, and it runs on CPUs too.

    Args:
        optimizer: The optimizer.
        dtype: ``'bfloat16'`` runs the forward pass under autocast; None leaves it as it is.
        **kwargs: ``accumulative_counts`` and ``clip_grad``, see ``OptimWrapper``.

    Raises:
        ValueError: If ``dtype`` is another.
    """

    _grad_norm: Tensor | None = None

    def __init__(self, optimizer: Any, dtype: str | None = None, **kwargs: Any):
        if dtype not in (None, 'bfloat16'):
            raise ValueError(
                f"AsyncOptimWrapper takes dtype='bfloat16' or None, got {dtype!r}. For float16, which needs "
                "loss scaling, use type='AmpOptimWrapper'."
            )
        super().__init__(optimizer, **kwargs)
        self.dtype = dtype

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, and no gradient synchronisation while gradients accumulate."""
        device = next(model.parameters()).device.type
        autocast = torch.autocast(device, torch.bfloat16) if self.dtype else nullcontext()
        with super().optim_context(model), autocast:
            yield

    def pop_grad_norm(self) -> Tensor | None:
        """Norm of the gradients, before clipping, if they were clipped since this was last asked."""
        norm, self._grad_norm = self._grad_norm, None
        return norm

    def _clip_grad(self) -> None:
        params = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        if params:
            self._grad_norm = self.clip_func(params, **self.clip_grad_kwargs)
