# Copyright (c) MMMixPro contributors.
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def unwrap_model(runner: Runner) -> nn.Module:
    """The runner's model itself, not what wraps it for distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
