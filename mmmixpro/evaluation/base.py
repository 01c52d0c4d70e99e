# Copyright (c) MMMixPro contributors.
"""What the metrics share: a row of a few bytes is all that is kept of a sample."""

from abc import abstractmethod
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info
from mmengine.evaluator import BaseMetric
from numpy import ndarray


class SampleMetric(BaseMetric):
    """A metric of figures that each sample yields alone.

    ``process`` appends one NumPy array per batch to ``self.results``, a row per sample. mmengine's own list of one
    object per sample would take some hundred bytes each; here all of ImageNet-C is some ten or hundred MB.

    Args:
        kwargs: ``collect_device``, ``prefix`` and ``collect_dir`` of :class:`mmengine.evaluator.BaseMetric`.
    """

    results: list[ndarray]
    row: np.dtype

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)

    def evaluate(self, size: int) -> dict:
        """Like the base, which drops what the sampler repeats to give each rank as many samples.

        The base would do so by interleaving lists of samples; here each rank drops its own before it hands over
        one array. Sample ``i`` is rank ``i % world_size``'s, as mmengine's samplers have it.
        """
        rank, world_size = get_dist_info()
        mine = np.concatenate([np.empty(0, self.row), *self.results])
        self.results = [mine[: len(range(rank, size, world_size))]]
        return super().evaluate(world_size)

    def compute_metrics(self, results: list) -> dict:
        """The figures of all samples, from the arrays of all ranks.

        Raises:
            ValueError: If there are no samples.
        """
        rows = np.concatenate(results)
        if not len(rows):
            raise ValueError(f'{type(self).__name__} expects samples, found none: is the dataset empty?')
        if len(results) > 1:
            # Back into the order of the dataset: the first sample of each rank, then the second of each, ...
            turn = np.concatenate([np.arange(len(part)) for part in results])
            rows = rows[np.argsort(turn, kind='stable')]
        return self.summarize(rows)

    @abstractmethod
    def summarize(self, rows: ndarray) -> dict:
        """The figures by name, of at least one row."""
