# Copyright (c) MMMixPro contributors.
"""Results of suites, kept with all that they hang on: the same is never measured twice."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmixpro.engine.atomic_backend import AtomicLocalBackend
from mmmixpro.engine.preflight import data_paths
from mmmixpro.version import __version__


def settings_of(cfg: Config, checkpoint: str) -> dict[str, Any]:
    """All that a result hangs on, of types that JSON has.

    Batch size, workers and devices are not among it: figures do not hang on them but for rounding.

    Args:
        cfg: Of the test, see :func:`~mmmixpro.evaluation.suite.apply_suite`.
        checkpoint: :func:`sha256` of the weights.
    """
    whole = cfg.to_dict()
    settings = {key: whole.get(key) for key in ('model', 'data_preprocessor', 'test_evaluator', 'test_cfg')}
    settings |= dict(
        dataset=whole['test_dataloader']['dataset'],
        data=fingerprint(path for _, path in data_paths(cfg, 'test_dataloader')),
        seed=(whole.get('randomness') or {}).get('seed'),
        checkpoint=checkpoint,
        mmmixpro=__version__,
    )
    return json.loads(json.dumps(settings, default=str))


def fingerprint(paths: Iterable[str]) -> str:
    """Hash of the names in folders and in the folders there: data that have become more, or fewer, are others."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        for name in sorted(found.relative_to(path).as_posix() for found in (*path.glob('*'), *path.glob('*/*'))):
            digest.update(f'{path}/{name}\n'.encode())
    return digest.hexdigest()


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
