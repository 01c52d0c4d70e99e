# Copyright (c) MMMixPro contributors.
"""Results of suites, kept with all that they hang on: the same is never measured twice."""

import hashlib
import json
import math
import os
import os.path as osp
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmixpro.engine.atomic_backend import AtomicLocalBackend
from mmmixpro.version import __version__


def settings_of(cfg: Config, checkpoint: str, seen: dict[str, str]) -> dict[str, Any]:
    """All that a result hangs on, of types that JSON has.

    Batch size, workers and devices are not among it: figures do not hang on them but for rounding. ``files`` are those
    on this machine that the dataset and the loop read, see :func:`paths_of`.

    Args:
        cfg: Of the test, see :func:`~mmmixpro.evaluation.suite.apply_suite`.
        checkpoint: :func:`sha256` of the weights.
        seen: The fingerprints of a run by path, which are taken once, and added to.
    """
    whole = cfg.to_dict()
    # Hooks may change what is tested, as EMAHook does.
    keys = ('model', 'data_preprocessor', 'test_evaluator', 'test_cfg', 'custom_hooks', 'default_hooks')
    settings = {key: whole.get(key) for key in keys} | dict(dataset=whole['test_dataloader']['dataset'])
    parts = (settings['dataset'], settings['test_cfg'])
    read = {str(path) for part in parts for name in paths_of(part) for path in behind(name)}
    for path in read - seen.keys():
        seen[path] = fingerprint(path)
    settings |= dict(
        files={path: seen[path] for path in sorted(read)},
        seed=(whole.get('randomness') or {}).get('seed'),
        checkpoint=checkpoint,
        mmmixpro=__version__,
    )
    return json.loads(json.dumps(settings, default=str))


def versions() -> dict[str, str]:
    """Versions of the packages that figures may hang on; of those that are not installed, none."""
    found = {name: import_module(name).__version__ for name in ('mmmixpro', 'torch', 'mmengine', 'mmcv', 'mmpretrain')}
    # Not imported, which takes seconds.
    for name in ('timm', 'imagecorruptions-imaug'):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def paths_of(settings: Any, root: str = '') -> Iterator[str]:
    """Whatever in settings may name a file or a folder, by itself or below the ``data_root`` beside it.

    Where images are in a folder below ``data_root``, the rest of that is not among it, but for ``meta``, in which
    mmpretrain's ``ImageNet`` looks for labels.
    """
    if isinstance(settings, str) and settings:
        yield from {settings, osp.join(root, settings)}
    elif isinstance(settings, Mapping):
        own = settings.get('data_root')
        if isinstance(own, str) and own:
            root = own
            prefix = settings.get('data_prefix') or settings.get('split') or {}
            prefixes = prefix.values() if isinstance(prefix, Mapping) else [prefix]
            below = [osp.join(root, name) for name in prefixes if isinstance(name, str) and name]
            yield osp.join(root, 'meta') if any(map(behind, below)) else root
        for key, value in settings.items():
            if key not in ('type', '_scope_', 'data_root'):
                yield from paths_of(value, root)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from paths_of(value, root)


def behind(name: str) -> list[Path]:
    """The files and folders of this machine that a path is of, or an address like ``zip://data/imagenet/val``."""
    scheme, _, local = name.rpartition('://')
    path = Path(osp.expanduser(local))
    if not scheme:
        return [path] if osp.exists(path) else []
    archives = [Path(f'{folder}.{scheme}') for folder in (path, *path.parents) if folder.name]
    return [archive for archive in archives if archive.is_file()][:1] or sorted(path.rglob(f'*.{scheme}'))


def fingerprint(path: str) -> str:
    """Hash of name, size and time of a file, or of all in a folder, however deep: what has changed is another."""
    digest = hashlib.sha256()
    if not osp.isdir(path):
        _add(digest, path)
    known = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        real = osp.realpath(folder)
        digest.update(f'{osp.relpath(folder, path)} {real}\n'.encode())
        folders.sort()
        if real in known:
            # Where links lead once more, or in circles.
            folders.clear()
            continue
        known.add(real)
        for name in sorted(names):
            _add(digest, osp.join(folder, name))
    return digest.hexdigest()


def _add(digest: Any, path: str) -> None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        stat = os.lstat(path)  # a link that leads to nothing
    digest.update(f'{osp.basename(path)} {stat.st_size} {stat.st_mtime_ns}\n'.encode())


def sha256(path: str | Path) -> str:
    """Hash of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_result(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result in a file, if it is of the same settings."""
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding='utf-8'))
    return result if result.get('settings') == settings else None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all; what is no number becomes null, for JSON has no NaN."""
    text = json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False)
    AtomicLocalBackend().put(text.encode(), path)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
