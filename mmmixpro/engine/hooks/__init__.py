# Copyright (c) MMMixPro contributors.
from .compile_hook import CompileHook, compile_parts
from .deferred_runtime_info_hook import DeferredRuntimeInfoHook
from .epoch_seed_hook import EpochSeedHook, seed_worker
from .mix_progress_hook import MixProgressHook
from .preflight_hook import PreflightHook
from .switch_recipe_hook import MixSwitchRecipeHook

__all__ = [
    'CompileHook',
    'DeferredRuntimeInfoHook',
    'EpochSeedHook',
    'MixProgressHook',
    'MixSwitchRecipeHook',
    'PreflightHook',
    'compile_parts',
    'seed_worker',
]
