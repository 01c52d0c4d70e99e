# Copyright (c) MMMixPro contributors.
"""What the preparation of every data set does."""

import hashlib
import io
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from PIL import Image
from rich.console import Console
from rich.progress import Progress, track

from mmmixpro.utils.weights import listed

from ..archives import put

T = TypeVar('T')
BLOCK = 1 << 24  # bytes


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Show how far the work on the items is; ``total`` unless they tell their number."""
    return track(items, description, total=total, console=Console(stderr=True))


def require(path: str | Path, what: str) -> Path:
    """The path, of which there must be something.

    Raises:
        FileNotFoundError: If there is nothing; ``what`` says what is expected, and where to get it.
    """
    path = Path(path)
    if not path.exists():
        parent = next(parent for parent in path.absolute().parents if parent.exists())
        raise FileNotFoundError(f"Expected '{path}', {what}; found only '{parent}'.")
    return path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder; the system lets them in again if this one is killed.

    Raises:
        RuntimeError: If another is at work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / '.preparing.lock')
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RuntimeError(f"Another process is writing to '{folder}'. Wait for it, or stop it first.") from None
    try:
        yield
    finally:
        lock.release()


def pycocotools() -> Any:
    """What draws masks; asked for before the work, which takes long.

    Raises:
        ImportError: Without pycocotools.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise ImportError('Masks are drawn by pycocotools, found none: pip install pycocotools.') from None
    return mask


def read_json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Read an annotation file.

    Raises:
        ValueError: If it is no JSON, or has not all the keys.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"'{path}' is no JSON ({error}): it may be cut short. Download it again.") from None
    if not isinstance(content, dict) or not set(keys) <= content.keys():
        found = listed(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"Expected '{path}' to have {', '.join(keys)}; found {found}. Is it the right file?")
    return content


def check_md5(path: Path, expected: str, record: Path) -> None:
    """Compare the MD5 sum of a file, and note it so that an unchanged file is not read again.

    Args:
        path: The file.
        expected: Its published sum.
        record: Where sums are noted.

    Raises:
        ValueError: If it is another.
    """
    stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns]
    known = json.loads(record.read_text()) if record.is_file() else {}
    entry = known.get(str(path.absolute()), {})
    found = entry.get('md5') if entry.get('state') == state else None
    if found is None:
        found = _md5(path, stat.st_size)
        known[str(path.absolute())] = dict(md5=found, state=state)
        put(json.dumps(known, indent=2).encode(), record)
    if found != expected:
        raise ValueError(
            f"'{path}' ({stat.st_size} bytes) is not the published file: expected the MD5 sum {expected}, found "
            f'{found}. Download it again, or the end of it, if the download was cut short.'
        )


def _md5(path: Path, size: int) -> str:
    digest = hashlib.md5()
    with open(path, 'rb') as file, Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(f'MD5 of {path.name}', total=size)
        while block := file.read(BLOCK):
            digest.update(block)
            bar.advance(task, len(block))
    return digest.hexdigest()


def sample(items: Sequence[T], num: int) -> list[T]:
    """Some of the items, always the same; all of them if there are no more."""
    return random.Random(0).sample(items, min(num, len(items)))


def decode(content: bytes) -> tuple[int, int]:
    """Decode an image to its last pixel.

    Returns:
        tuple[int, int]: Its width and height.

    Raises:
        ValueError: If it is truncated, or no image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return image.size
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises
        raise ValueError(f'{len(content)} bytes: {error}') from None


def fail(what: str, problems: Mapping[str, Sequence[str]], mend: str) -> None:
    """Raise one error that lists all problems.

    Args:
        what: What was checked.
        problems: By kind, those that there are.
        mend: What to do.

    Raises:
        ValueError: If there is any.
    """
    lines = [f'- {kind} ({len(found)}): {listed(found)}' for kind, found in problems.items() if found]
    if lines:
        raise ValueError('\n'.join([f'{what} is not as expected:', *lines, mend]))
