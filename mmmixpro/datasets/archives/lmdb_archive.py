# Copyright (c) MMMixPro contributors.
"""LMDB files, for those who have the optional package ``lmdb``."""

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import register_backend

from .backend import ArchiveBackend
from .store import Store

COMMIT_EVERY = 1000  # files; what follows the last commit is written again by a run that goes on
FIRST_SIZE = 1 << 30  # bytes; doubled whenever it is too small


def _lmdb() -> Any:
    try:
        return importlib.import_module('lmdb')
    except ImportError:
        raise ImportError(
            'LMDB archives need the package lmdb, found none. Install it (pip install lmdb), or use zip archives, '
            'which need nothing more: --format zip, and zip:// in place of lmdb://.'
        ) from None


# What this process has open, by path: LMDB allows a file to be opened once, and not to be carried over a fork.
_OPENED: dict[str, tuple[int, Any]] = {}


def _environment(path: str) -> Any:
    pid, env = _OPENED.get(path, (os.getpid(), None))
    if pid != os.getpid():
        # Without a lock file, closing what was inherited leaves the parent's as it is.
        env.close()
        env = None
    if env is None:
        # Images are read in random order, once an epoch.
        env = _lmdb().open(path, subdir=False, readonly=True, lock=False, readahead=False, meminit=False)
        _OPENED[path] = (os.getpid(), env)
    return env


class LmdbArchive:
    """Reads an LMDB file (``subdir=False``) whose keys are the names of files.

    Args:
        path: The file.

    Raises:
        ImportError: Without the package ``lmdb``.
        ValueError: If it is no LMDB file.
    """

    def __init__(self, path: str):
        self.path = str(Path(path).resolve())
        lmdb = _lmdb()
        if self.path in _OPENED:
            # The file may have been written anew.
            _OPENED.pop(self.path)[1].close()
        try:
            with self.env.begin() as transaction:
                keys = [bytes(key) for key in transaction.cursor().iternext(keys=True, values=False)]
        except lmdb.Error as error:
            raise ValueError(
                f"'{path}' is no whole LMDB file ({error}). Remove it and write it again, or copy it again."
            ) from None
        self.names = np.array(keys, dtype='S')  # LMDB sorts them

    @property
    def env(self) -> Any:
        """The LMDB environment, of this process."""
        return _environment(self.path)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: If there is no such file.
        """
        with self.env.begin() as transaction:
            content = transaction.get(name.encode())
        if content is None:
            raise FileNotFoundError(f"'{self.path}' has {len(self.names)} files, none of them '{name}'.")
        return content


@register_backend('mmmixpro.lmdb', prefixes='lmdb')
class LmdbFolderBackend(ArchiveBackend):
    """``lmdb://data/imagenet/train/...`` is in ``data/imagenet/train.lmdb``; see :class:`ArchiveBackend`."""

    scheme = 'lmdb'

    def open(self, path: str) -> LmdbArchive:
        """Open an LMDB file."""
        return LmdbArchive(path)


class LmdbStore(Store):
    """Writes an LMDB file; what has been committed stays, whatever happens.

    Raises:
        ImportError: Without the package ``lmdb``.
    """

    @classmethod
    def require(cls) -> None:
        _lmdb()

    def __init__(self, target: str | Path, source: Any = None):
        self.lmdb = _lmdb()
        super().__init__(target, source)
        # Without a lock file: whoever writes the folder has locked it.
        self.env = self.lmdb.open(str(self.partial), subdir=False, lock=False, map_size=FIRST_SIZE)
        self.pending: dict[str, bytes] = {}

    def __contains__(self, name: str) -> bool:
        if name in self.pending:
            return True
        with self.env.begin() as transaction:
            return transaction.get(name.encode()) is not None

    def write(self, name: str, content: bytes) -> None:
        self.pending[name] = content
        if len(self.pending) >= COMMIT_EVERY:
            self._commit()

    def names(self) -> list[str]:
        self._commit()
        with self.env.begin() as transaction:
            return [bytes(key).decode() for key in transaction.cursor().iternext(keys=True, values=False)]

    def read(self, name: str) -> bytes:
        self._commit()
        with self.env.begin() as transaction:
            return transaction.get(name.encode())

    def _commit(self) -> None:
        try:
            with self.env.begin(write=True) as transaction:
                for name, content in self.pending.items():
                    transaction.put(name.encode(), content)
        except self.lmdb.MapFullError:
            self.env.set_mapsize(2 * self.env.info()['map_size'])
            self._commit()
        self.pending = {}

    def close(self, done: bool) -> None:
        self._commit()
        self.env.close()
