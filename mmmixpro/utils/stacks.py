# Copyright (c) MMMixPro contributors.
"""All that differs between the maintained forks (``onedl-*``) and the upstream packages.

What follows is needed by mmengine 0.10.7 and, where it says so, by mmengine 0.10.12 too; which versions are
supported at all stands in :mod:`~mmmixpro.utils.compat`.
"""

import codecs
import importlib.util
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import mmcv
import mmengine.config.config
import mmengine.hub.hub
import numpy as np
import torch
from mmcv.utils import ext_loader
from mmengine.dataset import InfiniteSampler
from mmengine.logging import HistoryBuffer
from mmengine.runner import IterBasedTrainLoop
from mmengine.utils import get_installed_path
from packaging.version import Version
from torch.utils.data import DataLoader

try:
    from numpy._core import multiarray
except ImportError:  # NumPy 1
    from numpy.core import multiarray  # type: ignore[no-redef]


def level() -> None:
    """Make both stacks behave alike; ``import mmmixpro`` calls it."""
    allow_what_runners_save()
    if Version(mmengine.__version__) < Version('0.10.12'):
        for module in (mmengine.config.config, mmengine.hub.hub):
            module.get_installed_path = _installed_path
    # mmsegmentation 1.2.2 imports mmcv.ops for a function that needs no compiled op, and so fails as a whole without
    # them; 1.4.2 goes on without.
    if Version(mmcv.__version__) < Version('2.3') and importlib.util.find_spec('mmcv._ext') is None:
        ext_loader.load_ext = _MissingOps


def allow_what_runners_save() -> None:
    """Let ``torch.load`` read what runners save, and nothing more, without running code.

    To be called again before a load: after one of its own, mmengine 0.10.12 withdraws what its list has in common
    with this one.
    """
    torch.serialization.add_safe_globals(_SAVED_BY_RUNNERS)


def can_skip(loop: IterBasedTrainLoop) -> bool:
    """Whether a loop goes on from any iteration without loading what came before it.

    mmengine has that since 0.10.12; to an older loop it is added here, and its ``dataloader_iterator`` then has
    ``skip_iter`` too. Call it before the first image is loaded.

    Args:
        loop: The training loop. Its sampler must be an ``InfiniteSampler``, or have a method ``skip`` as that one has
            in mmengine 0.10.12.
    """
    if not hasattr(loop.dataloader_iterator, 'skip_iter') and isinstance(loop.dataloader.sampler, InfiniteSampler):
        loop.dataloader_iterator = _SkippingIterator(loop.dataloader, loop.iter)
        return True
    return hasattr(loop.dataloader_iterator, 'skip_iter') and hasattr(loop.dataloader.sampler, 'skip')


def _installed_path(package: str) -> str:
    """The folder of a package; that of an editable install too, which mmengine 0.10.7 looks for beside the others."""
    return str(Path(__file__).parents[1]) if package == 'mmmixpro' else get_installed_path(package)


class _SkippingIterator:
    """The iterator over the batches of an iteration-based loop of mmengine 0.10.7.

    Args:
        dataloader: With an ``InfiniteSampler``.
        trained: Iterations that a resumed run has behind it. That loop asks for the batches of all of them first; it
            gets None.
    """

    def __init__(self, dataloader: DataLoader, trained: int):
        self._dataloader = dataloader
        self._trained = trained
        self._iterator: Iterator | None = None
        self.skip_iter(trained)

    def __iter__(self) -> '_SkippingIterator':
        return self

    def __next__(self) -> Any:
        if self._trained > 0:
            self._trained -= 1
            return None
        # Only now, for it draws the seed of the workers, who begin at once.
        if self._iterator is None:
            self._iterator = iter(self._dataloader)
        return next(self._iterator)

    def skip_iter(self, num_iters: int) -> None:
        """Go on with the batch of an iteration, counted from the start of the run."""
        sampler: Any = self._dataloader.sampler
        sampler.indices = islice(sampler._indices_of_rank(), num_iters * (self._dataloader.batch_size or 1), None)
        self._iterator = None


class _MissingOps:
    """Stands for ``mmcv._ext``, where that was not compiled: ``mmcv.ops`` is imported, and its compiled ops raise."""

    def __init__(self, name: str, funcs: list[str]):
        pass

    def __getattr__(self, name: str) -> Any:
        raise ImportError(f"{name} is one of mmcv's compiled ops, found none: pip install mmcv=={mmcv.__version__}")


def _statistic(owner: type, name: str) -> Callable:
    """A method of ``HistoryBuffer``, which it saves by name; stands for ``getattr``, which would reach anything."""
    if owner is not HistoryBuffer or name not in ('current', 'max', 'mean', 'min'):
        raise UnpicklingError(f'asks for {name!r} of {owner!r}, which no history of logged values needs')
    return getattr(owner, name)


def _spelled(function: Callable, *names: str) -> list[Callable]:
    """A function under other names: torch knows what it allows by ``__module__`` and ``__name__``."""

    def named(name: str) -> Callable:
        def call(*args: Any) -> Any:
            return function(*args)

        call.__module__, _, call.__qualname__ = name.rpartition('.')
        call.__name__ = call.__qualname__
        return call

    return [named(name) for name in names]


# By default torch.load runs no code since 2.6, so that mmengine 0.10.7 cannot resume; mmengine 0.10.12 has a list and,
# where that does not suffice, loads the file again as code. Here is all that runners save, and no more:
# histories of logged values, and the arrays and scalars in them, as NumPy 2 and NumPy 1 spell them.
_SAVED_BY_RUNNERS: list[Any] = [
    HistoryBuffer,
    *_spelled(_statistic, 'builtins.getattr', '__builtin__.getattr'),
    np.ndarray,
    np.dtype,
    codecs.encode,  # of the bytes of a scalar; torch allows it itself since 2.5
    *(type(np.dtype(kind)) for kind in ('bool', 'int32', 'int64', 'uint32', 'float32', 'float64')),
    *_spelled(multiarray._reconstruct, 'numpy._core.multiarray._reconstruct', 'numpy.core.multiarray._reconstruct'),
    *_spelled(multiarray.scalar, 'numpy._core.multiarray.scalar', 'numpy.core.multiarray.scalar'),
]
