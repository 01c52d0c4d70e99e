# Copyright (c) MMMixPro contributors.
"""Files of whole models: loading them strictly, and what they say of themselves."""

import json
import struct
from typing import Any

from mmengine.logging import print_log
from torch import nn

from .checkpoint import load_strictly
from .convert_file import OURS_ALONE
from .weights import _read, _unpickle, load_weights

ADVICE = (
    'Give the checkpoint that was saved with this config, or the config that this checkpoint was trained by. Weights '
    'to start training from belong into the init_cfg of the backbone.'
)


def load_model(model: nn.Module, checkpoint: str) -> None:
    """Load a whole model as strictly as ``dict(type='Pretrained', strict=True)`` loads a part, and log the report.

    What a method learns for training alone, such as SMMix's token head, may be missing or stay unused.

    Args:
        model: A model of mmpretrain, mmseg or mmdet.
        checkpoint: Its checkpoint, read by :func:`~mmmixpro.utils.weights.load_weights`.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it does not fit, carries code or is none. The model is then as it was.
    """
    weights = load_weights(checkpoint, advice='Give the file that training has saved, or that was exported from it.')
    what = f'{checkpoint} into {type(model).__name__}'
    print_log(load_strictly(model, weights, what, ADVICE, OURS_ALONE, OURS_ALONE), 'current')


def read_meta(checkpoint: str) -> dict[str, Any]:
    """What a checkpoint says of itself: a runner's ``meta``, or the metadata of a ``.safetensors`` file.

    Args:
        checkpoint: A file, read as :func:`~mmmixpro.utils.weights.load_weights` reads it: no code is run.

    Returns:
        dict[str, Any]: Empty if it says nothing.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it carries code or is no checkpoint.
    """
    content = _read(checkpoint, '')
    if checkpoint.endswith('.safetensors'):
        (length,) = struct.unpack('<Q', content[:8])
        metadata = json.loads(content[8 : 8 + length]).get('__metadata__', {})
        return {key: _decoded(value) for key, value in metadata.items()}
    found = _unpickle(content, checkpoint, 'cpu')
    meta = found.get('meta') if isinstance(found, dict) else None
    return meta if isinstance(meta, dict) else {}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
