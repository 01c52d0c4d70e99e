# Copyright (c) MMMixPro contributors.
"""mmengine's two ways to make a batch, for configs inherited through ``mmmixpro::``.

mmengine marks each dict of such a config that has a ``type`` with ``_scope_``, builds loaders without taking the mark
away, and so stops at the first batch, where the function gets it. Under their own names these do not mind.
"""

from collections.abc import Sequence
from typing import Any

from mmengine import dataset
from mmengine.registry import FUNCTIONS


@FUNCTIONS.register_module(force=True)
def default_collate(data_batch: Sequence, _scope_: str | None = None) -> Any:
    """See :func:`mmengine.dataset.default_collate`."""
    return dataset.default_collate(data_batch)


@FUNCTIONS.register_module(force=True)
def pseudo_collate(data_batch: Sequence, _scope_: str | None = None) -> Any:
    """See :func:`mmengine.dataset.pseudo_collate`."""
    return dataset.pseudo_collate(data_batch)
