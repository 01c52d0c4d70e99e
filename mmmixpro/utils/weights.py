# Copyright (c) MMMixPro contributors.
"""Reading a checkpoint without running code that it may carry."""

import io
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import safetensors.torch
import torch
from mmengine import fileio
from mmengine.fileio.backends import prefix_to_backends
from torch import Tensor

_SHOWN = 10


def load_weights(
    checkpoint: str, prefix: str | None = None, map_location: str = 'cpu', advice: str = ''
) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, or those below a prefix, see :func:`read_checkpoint`.

    Args:
        checkpoint: A file or an address, as :func:`read_checkpoint` takes it.
        prefix: Keep the keys below it, and take it off. None keeps all.
        map_location: Device to read to.
        advice: What to do where there is no such file.

    Returns:
        dict[str, Tensor]: Weights by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it carries code, is no checkpoint, or has nothing below the prefix.
    """
    weights, _ = read_checkpoint(checkpoint, map_location, advice)
    if prefix is None:
        return weights
    prefix = prefix.removesuffix('.') + '.'
    below = {key.removeprefix(prefix): v for key, v in weights.items() if key.startswith(prefix)}
    if not below:
        raise ValueError(
            f'{checkpoint} has no key that begins with {prefix!r}: expected the weights there, '
            f'found {listed(weights)}. Set `prefix` to where they are, or to None for all.'
        )
    return below


def read_checkpoint(
    checkpoint: str, map_location: str = 'cpu', advice: str = ''
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint once: its weights and what it says of itself, without running code that it may carry.

    Reads what mmengine's runner saves, ``{'model': weights}`` and plain weights, and files of which the
    name ends in ``.safetensors``. Of a run with
    ``EMAHook`` the weights are the averaged weights, which the hook saves as ``state_dict``;
    ``ema_state_dict``, where it puts the others, is ignored. Whatever else the process has allowed
    ``torch.load`` to use, here it is a fixed list, and what is no weight becomes a stand-in.

    Args:
        checkpoint: A file, or an address of which :mod:`mmengine.fileio` has a backend
            (``https://``, ``s3://``, ...), read by each rank and kept nowhere. Names in a model
            zoo, such as ``torchvision://resnet50``, are not known here.
        map_location: Device to read to.
        advice: What to do where there is no such file.

    Returns:
        tuple[dict[str, Tensor], dict[str, Any]]: Weights by name; and a runner's ``meta`` or the metadata of a
        ``.safetensors`` file, empty if it has none.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it carries code or is no checkpoint.
    """
    file = _read(checkpoint, advice)
    content: Any
    meta: Any
    if checkpoint.endswith('.safetensors'):
        content, meta = _tensors(file, checkpoint, map_location), _metadata(file)
    else:
        content = _unpickle(file, checkpoint, map_location)
        meta = content.get('meta') if isinstance(content, dict) else None
    weights = content
    for key in ('state_dict', 'model'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            weights = content[key]
            break
    if not isinstance(weights, dict) or not any(isinstance(v, Tensor) for v in weights.values()):
        found = listed(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f'{checkpoint} holds no weights: expected a dict of tensors, by itself or as '
            f"'state_dict' or 'model'; found {found}."
        )
    weights = {str(key): value for key, value in weights.items()}
    if all(key.startswith('module.') for key in weights):  # saved from inside DistributedDataParallel
        weights = {key.removeprefix('module.'): value for key, value in weights.items()}
    return weights, meta if isinstance(meta, dict) else {}


def listed(keys: Iterable[str]) -> str:
    """The first ten keys, and how many more there are."""
    keys = list(keys)
    more = f' and {len(keys) - _SHOWN} more' if len(keys) > _SHOWN else ''
    return (', '.join(keys[:_SHOWN]) or 'none') + more


class _Inert:
    """Stands for what a checkpoint holds beside its weights: calls nothing, keeps nothing."""

    def __new__(cls, *args: Any) -> '_Inert':
        return super().__new__(cls)

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _InertDict(_Inert):
    """Of a dict's subclass; torch fills none but its own."""

    def __new__(cls, *args: Any) -> Any:
        return OrderedDict()


def _stand_in(name: str, base: type = _Inert) -> type:
    module, _, attribute = name.rpartition('.')
    return type(attribute, (base,), {'__module__': module})


# All that checkpoints of mmengine's runner ask for: the histories of logged scalars, which name
# their methods by getattr, and the arrays in them, as NumPy 2 and NumPy 1 spell them. Some names
# are there for torch 2.4.
_STAND_INS: list[Any] = [
    _stand_in(name)
    for name in (
        'mmengine.logging.history_buffer.HistoryBuffer',
        # The command line, with paths, which others' training scripts save beside the weights.
        'argparse.Namespace',
        'pathlib.Path',
        'pathlib.PosixPath',
        'pathlib._local.PosixPath',
        'builtins.getattr',
        '__builtin__.getattr',
        '_codecs.encode',
        'numpy.ndarray',
        'numpy.dtype',
        'numpy._core.multiarray._reconstruct',
        'numpy._core.multiarray.scalar',
        'numpy.core.multiarray._reconstruct',
        'numpy.core.multiarray.scalar',
    )
]
# Swin's authors save their config.
_STAND_INS.append(_stand_in('yacs.config.CfgNode', _InertDict))


def _tensors(content: bytes, checkpoint: str, map_location: str) -> dict[str, Tensor]:
    try:
        weights = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f'{checkpoint} is no checkpoint: expected weights as safetensors, found "{error}".') from error
    return {name: value.to(map_location) for name, value in weights.items()}


def _metadata(content: bytes) -> dict[str, Any]:
    """The metadata of a file that safetensors has read: its header is whole."""
    # safetensors gives them of files alone, not of what was fetched. First comes the length of the header, 8 bytes.
    end = 8 + int.from_bytes(content[:8], 'little')
    return {key: _decoded(value) for key, value in json.loads(content[8:end]).get('__metadata__', {}).items()}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _unpickle(content: bytes, checkpoint: str, map_location: str) -> Any:
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(_STAND_INS)
    try:
        return torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
    except Exception as error:
        message = str(error) or type(error).__name__
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)
    code = re.search(r'GLOBAL (\S+)', message)
    if code is None:
        # The rest of torch's message recommends weights_only=False.
        reason = re.split(r'\.?\s*\n|\. ', message.rpartition('Unpickler error: ')[2].strip())[0]
        raise ValueError(
            f'{checkpoint} is no checkpoint: expected weights saved by torch.save, found '
            f'"{reason}". Nothing of it was run.'
        )
    raise ValueError(
        f'{checkpoint} carries code: it asks for {code[1]}, which no weights need. None of it was '
        'run. If you trust its source, load it elsewhere, save the weights alone, '
        'torch.save(dict(state_dict=...), path), and give that file.'
    )


def _read(checkpoint: str, advice: str) -> bytes:
    scheme, separator, _ = checkpoint.partition('://')
    if separator and scheme.rpartition(':')[2] not in prefix_to_backends:
        raise ValueError(
            f'{checkpoint}: expected a file, or an address that begins with one of '
            f"{sorted(filter(None, prefix_to_backends))}, found '{scheme}'. Give the address of a "
            "model zoo's file in place of its name there."
        )
    path = checkpoint if separator else os.path.expanduser(checkpoint)
    if not separator and not os.path.isfile(path):
        raise FileNotFoundError(f'No checkpoint at {checkpoint!r} (in {os.getcwd()}). {advice}'.rstrip())
    return fileio.get(path)
