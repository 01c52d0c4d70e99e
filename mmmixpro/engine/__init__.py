# Copyright (c) MMMixPro contributors.
from .atomic_backend import AtomicLocalBackend
from .collate import default_collate, pseudo_collate
from .hooks import (
    CompileHook,
    DeferredRuntimeInfoHook,
    EpochSeedHook,
    MixProgressHook,
    MixSwitchRecipeHook,
    PreflightHook,
)
from .loops import AdversarialTestLoop, OcclusionTestLoop
from .optim_constructor import MergedOptimWrapperConstructor
from .optim_wrapper import AsyncOptimWrapper

__all__ = [
    'AdversarialTestLoop',
    'AsyncOptimWrapper',
    'AtomicLocalBackend',
    'CompileHook',
    'DeferredRuntimeInfoHook',
    'EpochSeedHook',
    'MergedOptimWrapperConstructor',
    'MixProgressHook',
    'MixSwitchRecipeHook',
    'OcclusionTestLoop',
    'PreflightHook',
    'default_collate',
    'pseudo_collate',
]
