# Copyright (c) MMMixPro contributors.
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; each module has its own back then, frozen ones theirs."""
    # Flags alone: `train()` of some backbones freezes stages anew, and mmpretrain's returns None.
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
