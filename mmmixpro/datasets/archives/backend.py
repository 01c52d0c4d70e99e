# Copyright (c) MMMixPro contributors.
"""Archives read as if they were folders, through :mod:`mmengine.fileio`."""

import os.path as osp
from abc import ABCMeta, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mmengine.fileio import BaseStorageBackend

TOOL = 'python tools/dataset_converters/imagenet.py'


class Archive(Protocol):
    """A file of many: the sorted ``names`` of its members, ``(N,)`` bytes, and the content of each."""

    names: np.ndarray

    def read(self, name: str) -> bytes:
        """The content of a member."""
        ...


class ArchiveBackend(BaseStorageBackend, metaclass=ABCMeta):
    """Reads folders out of one file each, at addresses made of a scheme and the path that a folder would have.

    ``zip://data/imagenet/train/n01440764/x.JPEG`` is the member ``n01440764/x.JPEG`` of ``data/imagenet/train.zip``.
    So what reads ``data/imagenet`` reads its archives where it is given ``zip://data/imagenet``, and both the dataset,
    which lists, and ``LoadImageFromFile`` find this class by the scheme.

    An archive is opened, and its names are kept, when something in it is first asked for; in a training this is the
    dataset's scan, so that workers share the names.
    """

    scheme: str

    def __init__(self) -> None:
        self.archives: dict[str, Archive] = {}  # by the path of the folder that each stands for

    @abstractmethod
    def open(self, path: str) -> Archive:
        """Open an archive."""

    def locate(self, filepath: str | PathLike) -> tuple[Archive, str]:
        """The archive of an address and the name in it, without a slash at its end, ``''`` for the whole archive.

        Raises:
            FileNotFoundError: If there is no archive for any folder of the address.
        """
        path = self._local(filepath)
        for folder, archive in self.archives.items():
            if path == folder or path.startswith(f'{folder}/'):
                return archive, path[len(folder) + 1 :]
        for parent in (Path(path), *Path(path).parents):
            file = f'{parent}.{self.scheme}'
            if osp.isfile(file):
                self.archives[str(parent)] = self.open(file)
                return self.locate(filepath)
        missing = Path(path)
        while not missing.parent.is_dir():
            missing = missing.parent
        found = ', '.join(sorted(beside.name for beside in missing.parent.iterdir())[:10]) or 'nothing'
        raise FileNotFoundError(
            f"Expected '{missing}.{self.scheme}' to read '{filepath}' from, found beside it: {found}. Write it: {TOOL} "
            f'SOURCE --out FOLDER --format {self.scheme}.'
        )

    def _local(self, filepath: str | PathLike) -> str:
        return osp.normpath(osp.expanduser(str(filepath).removeprefix(f'{self.scheme}://')))

    def get(self, filepath: str | PathLike) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: If there is no such archive, or no such file in it.
            ValueError: If the archive is damaged.
        """
        archive, name = self.locate(filepath)
        return archive.read(name)

    def get_text(self, filepath: str | PathLike, encoding: str = 'utf-8') -> str:
        """Read a text file."""
        return self.get(filepath).decode(encoding)

    def isfile(self, filepath: str | PathLike) -> bool:
        """Whether there is such a file in an archive."""
        try:
            archive, name = self.locate(filepath)
        except FileNotFoundError:
            return False
        at = bisect_left(archive.names, name.encode())
        return at < len(archive.names) and archive.names[at] == name.encode()

    def isdir(self, filepath: str | PathLike) -> bool:
        """Whether there is such a folder in an archive, or it is a folder on the disk that holds archives."""
        try:
            archive, name = self.locate(filepath)
        except FileNotFoundError:
            return any(Path(self._local(filepath)).glob(f'*.{self.scheme}'))
        start, end = _span(archive.names, name)
        return not name or start < end

    def exists(self, filepath: str | PathLike) -> bool:
        """Whether there is such a file or folder."""
        return self.isfile(filepath) or self.isdir(filepath)

    def join_path(self, filepath: str | PathLike, *filepaths: str | PathLike) -> str:
        """Join parts of an address, as ``os.path.join``."""
        return osp.join(str(filepath), *map(str, filepaths))

    def list_dir_or_file(
        self,
        dir_path: str | PathLike,
        list_dir: bool = True,
        list_file: bool = True,
        suffix: Any = None,
        recursive: bool = False,
    ) -> Iterator[str]:
        """What is in a folder, in the order of the names, which mmengine's ``LocalBackend`` leaves open.

        Args:
            dir_path: Address of the folder.
            list_dir: Whether to list folders.
            list_file: Whether to list files.
            suffix: Ending of the files that are listed, or a tuple of endings.
            recursive: Whether to list what is in folders inside.

        Yields:
            str: Paths relative to the folder.
        """
        archive, folder = self.locate(dir_path)
        names = archive.names
        start, end = _span(names, folder)
        skip = len(folder) + 1 if folder else 0
        while start < end:
            head, slash, _ = bytes(names[start])[skip:].decode().partition('/')
            if not slash:
                if list_file and (suffix is None or head.endswith(suffix)):
                    yield head
                start += 1
                continue
            if list_dir:
                yield head
            inner = osp.join(folder, head)
            if recursive:
                for path in self.list_dir_or_file(self.join_path(dir_path, head), list_dir, list_file, suffix, True):
                    yield f'{head}/{path}'
            _, start = _span(names, inner)


def _span(names: np.ndarray, folder: str) -> tuple[int, int]:
    """From where to where the members of a folder stand among the sorted names."""
    if not folder:
        return 0, len(names)
    # '0' is the character behind '/'.
    return bisect_left(names, f'{folder}/'.encode()), bisect_left(names, f'{folder}0'.encode())
