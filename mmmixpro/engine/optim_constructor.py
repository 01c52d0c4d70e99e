# Copyright (c) MMMixPro contributors.
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmpretrain.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's default constructor, with one parameter group for all parameters of equal settings.

    Given ``paramwise_cfg``, mmengine's makes a group of each parameter, 150 for a DeiT, and the
    optimizer launches its kernels for each of them. Steps are the same; the optimizer's state in
    checkpoints is ordered otherwise, so a run must be resumed with the constructor it began with.

    Raises:
        ValueError: If two modules share a parameter and ``paramwise_cfg.bypass_duplicate`` is not set.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any) -> None:
        """Append the groups of a module and of its children to ``params``."""
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:  # a child, called from its parent's add_params
            return
        merged: dict[str, dict] = {}
        for group in params:
            settings = {name: value for name, value in group.items() if name != 'params'}
            merged.setdefault(repr(sorted(settings.items())), dict(settings, params=[]))['params'] += group['params']
        params[:] = merged.values()
        owned = [id(parameter) for group in params for parameter in group['params']]
        if len(owned) != len(set(owned)):
            raise ValueError(
                'A parameter that two modules share would be updated twice in a step. Set '
                'optim_wrapper.paramwise_cfg.bypass_duplicate=True.'
            )
