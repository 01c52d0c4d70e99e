# Copyright (c) MMMixPro contributors.
"""How the robustness sets hand out their samples."""

from collections.abc import Callable, Sequence
from typing import Any, overload


class Rows(Sequence[dict]):
    """Samples that are made when asked for: a list of ImageNet-C's 3.75 million would take gigabytes.

    It stands in for a ``data_list`` that is not serialised.

    Args:
        make: Makes the sample of a row.
        rows: The rows.
    """

    def __init__(self, make: Callable[[int], dict], rows: range):
        self.make = make
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> dict: ...
    @overload
    def __getitem__(self, at: slice) -> 'Rows': ...
    def __getitem__(self, at: int | slice) -> 'dict | Rows':
        if isinstance(at, slice):
            return Rows(self.make, self.rows[at])
        return self.make(self.rows[at])


def add_metainfo(packed: dict, **metainfo: Any) -> dict:
    """Tell the metrics what is known of a sample, as meta information, for ``PackInputs`` drops it.

    Args:
        packed: What the pipeline has made of the sample; with test-time augmentation one ``DataSample`` for each view.
        **metainfo: What to tell.

    Returns:
        dict: ``packed``.
    """
    samples = packed.get('data_samples', [])
    for sample in samples if isinstance(samples, list) else [samples]:
        sample.set_metainfo(metainfo)
    return packed
