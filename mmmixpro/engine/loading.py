# Copyright (c) MMMixPro contributors.
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner

from mmmixpro.utils.model_file import load_model
from mmmixpro.utils.stacks import allow_what_runners_save

from .unwrap import unwrap_model


def load_whole_model(runner: Runner, checkpoint: str) -> None:
    """Load the model that is to be tested, or trained from ``load_from``, in place of ``runner.load_checkpoint``.

    mmengine's runs what the file carries, and warns of what does not fit; weights at random give figures too, which
    nobody would notice.

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


def load_to_resume(runner: Runner, checkpoint: str, map_location: Any = 'cpu') -> dict[str, Any]:
    """Load a checkpoint of a run that goes on, in place of ``runner.load_checkpoint``.

    Args:
        runner: The runner.
        checkpoint: What a runner has saved, a file of this machine.
        map_location: Device to read to.

    Returns:
        dict: All of it, from which ``runner.resume`` takes the state of the optimizer and the rest.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds what no run saves, or is no checkpoint of a run.
        RuntimeError: If its weights are not the model's.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f'Cannot resume from {checkpoint}: there is no such file.')
    allow_what_runners_save()
    try:
        content = torch.load(checkpoint, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        # The rest of torch's message recommends weights_only=False.
        found = re.search(r'(?:GLOBAL|asks for) [^\n]*?(?= was not|, which|$)', str(error), re.MULTILINE)
        wrong = f'it holds more than a run saves ({found[0]}). Nothing of it was run' if found else 'it cannot be read'
        raise ValueError(
            f'Cannot resume from {checkpoint}: {wrong}. To take its weights alone, set load_from in place of --resume.'
        ) from None
    if not isinstance(content, dict) or not {'state_dict', 'message_hub', 'meta'} <= content.keys():
        raise ValueError(
            f'Cannot resume from {checkpoint}: expected what a run saves, with state_dict, message_hub and meta, '
            f'found {sorted(content) if isinstance(content, dict) else type(content).__name__}. To take its weights '
            'alone, set load_from in place of --resume.'
        )
    runner.call_hook('after_load_checkpoint', checkpoint=content)
    unwrap_model(runner).load_state_dict(content['state_dict'])
    return content
