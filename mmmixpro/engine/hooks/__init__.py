# Copyright (c) MMMixPro contributors.
from .epoch_seed_hook import EpochSeedHook, seed_worker
from .preflight_hook import PreflightHook

__all__ = ['EpochSeedHook', 'PreflightHook', 'seed_worker']
