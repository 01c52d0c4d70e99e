# Copyright (c) MMMixPro contributors.
"""Writing weights, whole or not at all."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from mmengine import fileio
from torch import Tensor


def target_path(target: str, source: str) -> Path:
    """Where to write, if that is possible.

    Args:
        target: Name of the file to write.
        source: What it is made of.

    Raises:
        ValueError: If ``target`` is no local file, or the source itself.
    """
    path = Path(target).expanduser()
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if '://' in target or path.is_dir() or not folder.is_dir():
        raise ValueError(f'Expected the name of a file to write, found {target!r}. Give a local path, to no folder.')
    if path.resolve() == Path(source).expanduser().resolve():
        raise ValueError(f'{target} would replace what it is made of. Give the result a name of its own.')
    return path


def write_weights(weights: Mapping[str, Tensor], path: Path, meta: Mapping[str, Any] | None = None) -> None:
    """Write ``state_dict`` and, if given, ``meta``; by safetensors where the name ends so, with ``meta`` as JSON.

    Args:
        weights: Weights by name.
        path: The file.
        meta: What is known of them, of plain types.
    """
    # Parts of a tensor, such as positions without that of the class token, would be saved with all of it.
    own = {name: value.clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    meta = dict(meta or {})
    if path.suffix == '.safetensors':
        metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in meta.items()}
        content = safetensors.torch.save(own, dict(metadata, format='pt'))
    else:
        file = io.BytesIO()
        torch.save(dict(state_dict=own, meta=meta) if meta else dict(state_dict=own), file)
        content = file.getvalue()
    fileio.put(content, path, backend_args=dict(backend='mmmixpro.atomic'))
