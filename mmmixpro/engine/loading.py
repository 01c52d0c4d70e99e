# Copyright (c) MMMixPro contributors.
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner

from mmmixpro.utils.model_file import load_model

from .unwrap import unwrap_model


def load_whole_model(runner: Runner, checkpoint: str) -> None:
    """Load the model that is to be tested, or trained from ``load_from``, in place of ``runner.load_checkpoint``.

    mmengine's runs what the file carries, and warns of what does not fit; weights at random give figures too, which
    nobody would notice. Resuming needs mmengine's, which hands the state of the optimizer on.

    Args:
        runner: The runner.
        checkpoint: The checkpoint; with ``EMAHook``, the averaged weights are taken.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it does not fit the model, carries code or is none.
    """
    model = unwrap_model(runner)
    model = model.module if isinstance(model, BaseTTAModel) else model
    load_model(model, checkpoint)
    # EMAHook has a copy of its own.
    runner.call_hook('after_load_checkpoint', checkpoint=dict(state_dict=model.state_dict()))
