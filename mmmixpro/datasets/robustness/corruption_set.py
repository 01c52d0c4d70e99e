# Copyright (c) MMMixPro contributors.
"""What ImageNet-C and CIFAR-100-C have in common."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset

from .corruptions import BENCHMARK, SEVERITIES, Kind, kinds, list_missing
from .samples import add_metainfo


class CorruptionSet(BaseDataset):
    """A published test set of corrupted images. Meta information: ``corruption`` and ``severity``.

    Args:
        *args: Those of the class that it is mixed into.
        corruptions: Defaults to the benchmark's 15. The 4 extra ones are taken when they are named.
        severities: Out of 1 to 5.
        allow_missing: Test on what is there and warn of what is missing.
        **kwargs: Likewise, and those of mmpretrain's ``BaseDataset``. Samples are never serialised, for they are made
            when asked for.

    Raises:
        FileNotFoundError: If corruptions or severities are missing.
        ValueError: For an unknown corruption or severity.
    """

    TITLE: str
    SOURCE: str  # how to get it

    def __init__(
        self,
        *args: Any,
        corruptions: Sequence[str] = BENCHMARK,
        severities: Sequence[int] = SEVERITIES,
        allow_missing: bool = False,
        **kwargs: Any,
    ):
        self.kinds = kinds(corruptions, severities)
        self.severities = severities
        self.allow_missing = allow_missing
        super().__init__(*args, **{**kwargs, 'serialize_data': False})

    def check_missing(self, missing: Mapping[Kind, str]) -> None:
        """Refuse what is not whole, or warn of it where that is allowed and something is there.

        Args:
            missing: As :func:`~mmmixpro.datasets.robustness.corruptions.list_missing` takes it.
        """
        if not missing:
            return
        lacks = f"'{self.data_root}' lacks of {self.TITLE}: {list_missing(missing, self.severities)}."
        nothing = len(missing) == len(self.kinds) and not any(missing.values())
        if nothing or not self.allow_missing:
            raise FileNotFoundError(f'{lacks} {self.SOURCE} To test on what is there: allow_missing=True.')
        print_log(f'{lacks} Tested on the rest.', logger='current', level=logging.WARNING)

    def prepare_data(self, idx: int) -> dict:
        info = self.get_data_info(idx)
        return add_metainfo(self.pipeline(info), corruption=info['corruption'], severity=info['severity'])
