# Copyright (c) MMMixPro contributors.
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner

from mmmixpro.utils.model_file import load_model
from mmmixpro.utils.weights import load_weights

from .unwrap import unwrap_model


def load_tested(runner: Runner, checkpoint: str) -> None:
    """Load the model that is to be tested, in place of ``runner.load_checkpoint``.

    mmengine's warns of what does not fit, and weights at random give figures too, which nobody would notice.

    Args:
        runner: The runner.
        checkpoint: The checkpoint; with ``EMAHook``, the averaged weights are taken.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it does not fit the model, carries code or is none.
    """
    model = unwrap_model(runner)
    load_model(model.module if isinstance(model, BaseTTAModel) else model, checkpoint)
    # EMAHook tests a copy of its own.
    runner.call_hook('after_load_checkpoint', checkpoint=dict(state_dict=load_weights(checkpoint)))
