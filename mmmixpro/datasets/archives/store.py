# Copyright (c) MMMixPro contributors.
"""Writing the files of a folder, into a folder or an archive, so that it is whole or absent."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType


class Store(ABC):
    """Takes files one by one and goes on where it was stopped.

    What is written stands at a hidden place beside the target. Left without an error, ``with Store(target) as store``
    moves it to the target in one step.

    Args:
        target: The folder or file, which must not be there yet.

    Raises:
        FileExistsError: If it is.
    """

    def __init__(self, target: str | Path):
        self.target = Path(target)
        self.partial = self.target.with_name(f'.{self.target.name}.partial')
        if os.path.lexists(self.target):
            raise FileExistsError(f"Expected to write '{self.target}', found it written. Remove it to write it again.")
        self.target.parent.mkdir(parents=True, exist_ok=True)

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


class FolderStore(Store):
    """A folder. A file in it is whole, for it is renamed once it is written."""

    def __init__(self, target: str | Path):
        super().__init__(target)
        self.partial.mkdir(exist_ok=True)
        self.folders = {path.name for path in self.partial.iterdir()}

    def __contains__(self, name: str) -> bool:
        return (self.partial / name).is_file()

    def write(self, name: str, content: bytes) -> None:
        path = self.partial / name
        if path.parent.name not in self.folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.folders.add(path.parent.name)
        part = path.with_name(f'.{path.name}.part')
        part.write_bytes(content)
        part.replace(path)

    def close(self, done: bool) -> None:
        pass
