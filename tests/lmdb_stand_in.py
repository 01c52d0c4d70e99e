# Copyright (c) MMMixPro contributors.
"""As much of the package ``lmdb`` as is used, and as strict about it, where that is not installed."""

import os
import pickle
from contextlib import contextmanager
from pathlib import Path


class Error(Exception):
    pass


class MapFullError(Error):
    pass


class InvalidError(Error):
    pass


def open(path, *, subdir, readonly=False, lock, readahead=True, meminit=True, map_size=10 << 20):
    assert not subdir
    return Environment(Path(path), readonly, map_size)


class Environment:
    def __init__(self, path, readonly, map_size):
        self.path, self.readonly, self.map_size, self.pid = path, readonly, map_size, os.getpid()
        if not path.exists() and readonly:
            raise Error(f'{path}: No such file or directory')
        if not path.exists():
            self._save({})
        self._load()

    def _load(self):
        try:
            return pickle.loads(self.path.read_bytes())
        except (pickle.UnpicklingError, EOFError):
            raise InvalidError(f'{self.path}: MDB_INVALID: File is not an LMDB file') from None

    def _save(self, content):
        part = self.path.with_name(self.path.name + '.stand-in')
        part.write_bytes(pickle.dumps(content))
        part.replace(self.path)

    def info(self):
        return dict(map_size=self.map_size)

    def set_mapsize(self, size):
        self.map_size = size

    @contextmanager
    def begin(self, write=False):
        assert self.pid == os.getpid(), 'opened by another process'
        assert self.pid is not None, 'closed'
        transaction = Transaction(self._load(), self.map_size if write else 0)
        yield transaction
        if write:
            assert not self.readonly
            self._save(transaction.content)

    def close(self):
        self.pid = None

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()


class Transaction:
    def __init__(self, content, room):
        self.content, self.room = content, room

    def get(self, key):
        assert isinstance(key, bytes)
        return self.content.get(key)

    def put(self, key, value):
        if sum(map(len, self.content.values())) + len(value) > self.room:
            raise MapFullError('MDB_MAP_FULL: Environment mapsize limit reached')
        self.content[key] = value

    def cursor(self):
        return self

    def iternext(self, keys, values):
        assert keys and not values
        return iter(sorted(self.content))
