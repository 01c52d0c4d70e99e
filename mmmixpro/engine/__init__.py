# Copyright (c) MMMixPro contributors.
from .atomic_backend import AtomicLocalBackend
from .hooks import EpochSeedHook, PreflightHook

__all__ = ['AtomicLocalBackend', 'EpochSeedHook', 'PreflightHook']
