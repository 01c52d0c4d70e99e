# Copyright (c) MMMixPro contributors.
"""Files of whole models, loaded strictly."""

from typing import Any

from mmengine.logging import print_log
from torch import nn

from .checkpoint import load_strictly
from .convert_file import OURS_ALONE
from .weights import read_checkpoint

ADVICE = (
    'Give the checkpoint that was saved with this config, or the config that this checkpoint was trained by. Weights '
    'to start training from belong in the init_cfg of the backbone.'
)


def load_model(model: nn.Module, checkpoint: str) -> dict[str, Any]:
    """Load a whole model as strictly as ``dict(type='Pretrained', strict=True)`` loads a part, and log the report.

    What a method learns for training alone, such as SMMix's token head, may be missing or stay unused.

    Args:
        model: A model of mmpretrain, mmseg or mmdet.
        checkpoint: Its checkpoint, read by :func:`~mmmixpro.utils.weights.read_checkpoint`.

    Returns:
        dict[str, Any]: What the checkpoint says of itself.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it does not fit, carries code or is none. The model is then as it was.
    """
    advice = 'Give the file that training has saved, or that was exported from it.'
    weights, meta = read_checkpoint(checkpoint, advice=advice)
    what = f'{checkpoint} into {type(model).__name__}'
    print_log(load_strictly(model, weights, what, ADVICE, OURS_ALONE, OURS_ALONE), 'current')
    return meta
