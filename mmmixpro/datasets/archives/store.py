# Copyright (c) MMMixPro contributors.
"""Writing the files of a folder, into a folder or an archive, so that it is whole or absent."""

import json
import os
import shutil
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any


def put(content: bytes, path: Path, fsync: bool = True) -> None:
    """Write a file, whole or not at all.

    Args:
        content: The content.
        path: The file, in a folder that is there.
        fsync: Whether it must outlast a loss of power too; for a million files that takes too long.
    """
    part = path.with_name(f'.{path.name}.part')
    try:
        part.write_bytes(content)
        if fsync:
            with part.open('rb') as file:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class Store(ABC):
    """Takes files one by one and goes on where it was stopped.

    What is written stands at a hidden place beside the target, and beside that what it is made of. Left without an
    error, ``with Store(target) as store`` moves it to the target in one step.

    Args:
        target: The folder or file, which must not be there yet.
        source: What the files are made of, of JSON's types. What was written of anything else is removed, with a
            warning, not continued.

    Raises:
        FileExistsError: If the target is there.
    """

    def __init__(self, target: str | Path, source: Any = None):
        self.target = Path(target)
        self.partial = self.target.with_name(f'.{self.target.name}.partial')
        self.record = self.target.with_name(f'.{self.target.name}.source.json')
        if os.path.lexists(self.target):
            raise FileExistsError(f"Expected to write '{self.target}', found it written. Remove it to write it again.")
        self.target.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(self.record.read_text()) if self.record.is_file() else None
        if known != source:
            self._discard(known, source)
        if source is not None:
            put(json.dumps(source).encode(), self.record)

    def _discard(self, known: Any, source: Any) -> None:
        if self.partial.exists():
            warnings.warn(
                f"'{self.target}' is begun anew: what an earlier run has written was made of {known}, this run is "
                f'given {source}.',
                stacklevel=4,
            )
            if self.partial.is_dir():
                shutil.rmtree(self.partial)
            else:
                self.partial.unlink()
        # Last, so that a run that is stopped here begins anew too.
        self.record.unlink(missing_ok=True)

    @classmethod  # noqa: B027 (most need nothing)
    def require(cls) -> None:
        """Find out whether it can be written at all.

        Raises:
            ImportError: If a package is missing.
        """

    @abstractmethod
    def __contains__(self, name: str) -> bool:
        """Whether a file has been written, in this run or an earlier one that was stopped."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a file that has not been written; ``name`` is relative, its folders parted by ``/``."""

    @abstractmethod
    def names(self) -> list[str]:
        """What has been written, in this run or an earlier one."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file that has been written."""

    @abstractmethod
    def close(self, done: bool) -> None:
        """Write down what is still pending; ``done`` if nothing more comes."""

    def __enter__(self) -> 'Store':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(done=error is None)
        if error is None:
            os.replace(self.partial, self.target)
            self.record.unlink(missing_ok=True)


class FolderStore(Store):
    """A folder. A file in it is whole, for it is renamed once it is written."""

    def __init__(self, target: str | Path, source: Any = None):
        super().__init__(target, source)
        self.partial.mkdir(exist_ok=True)
        self.folders = {path.name for path in self.partial.iterdir()}

    def __contains__(self, name: str) -> bool:
        return (self.partial / name).is_file()

    def write(self, name: str, content: bytes) -> None:
        path = self.partial / name
        if path.parent.name not in self.folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.folders.add(path.parent.name)
        put(content, path, fsync=False)

    def names(self) -> list[str]:
        return [path.relative_to(self.partial).as_posix() for path in self.partial.rglob('*') if path.is_file()]

    def read(self, name: str) -> bytes:
        return (self.partial / name).read_bytes()

    def close(self, done: bool) -> None:
        pass
