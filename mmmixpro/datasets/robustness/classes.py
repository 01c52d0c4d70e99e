# Copyright (c) MMMixPro contributors.
"""The classes of ImageNet and of its robustness sets, by wnid and by index among the 1000."""

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def wnids(name: str = 'imagenet') -> tuple[str, ...]:
    """The classes of a set, in the order of their indices, as timm lists them.

    Args:
        name: ``'imagenet'`` (all 1000), ``'imagenet_a'`` or ``'imagenet_r'`` (200 each).

    Raises:
        ImportError: Without timm, or with one that is too old to have the list.
    """
    spec = find_spec('timm')
    if spec is None or spec.origin is None:
        raise ImportError("The classes of ImageNet's robustness sets are listed in timm, found none: pip install timm.")
    # Read without importing timm, which takes seconds.
    path = Path(spec.origin).with_name('data') / f'_info/{name}_synsets.txt'
    if not path.is_file():
        raise ImportError(f"Expected timm to list the classes of {name}, found no '{path}': pip install -U timm.")
    return tuple(path.read_text().split())


def indices(names: Iterable[str]) -> dict[str, int]:
    """The index among ImageNet's 1000 classes of each wnid, in the order given."""
    index = {wnid: i for i, wnid in enumerate(wnids())}
    return {name: index[name] for name in names}
