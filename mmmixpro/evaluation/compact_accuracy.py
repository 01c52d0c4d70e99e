# Copyright (c) MMMixPro contributors.
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS


@METRICS.register_module()
class CompactAccuracy(BaseMetric):
    """mmpretrain's ``Accuracy``, the same figures, that keeps a byte for an image in place of its scores.

    For loops that evaluate many settings at once: of ImageNet's 50,000 images ``Accuracy`` keeps 0.46 GB a setting.
    A score of 0 is no prediction, as with ``Accuracy(thrs=0.)``.

    Args:
        topk: An image is right if its label is among so many best classes; several of them in one sequence.
        collect_device: Where ranks exchange results, ``'cpu'`` or ``'gpu'``.
        prefix: In front of the names; ``'accuracy'`` by default.

    Raises:
        ValueError: If a label is none of the model's classes, or if these are fewer than ``topk``.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: int | Sequence[int] = 1, collect_device: str = 'cpu', prefix: str | None = None):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep which images are right."""
        scores = torch.stack([sample['pred_score'] for sample in data_samples]).float().cpu()
        labels = torch.cat([sample['gt_label'] for sample in data_samples]).cpu()
        if max(self.topk) > scores.size(1):
            raise ValueError(f'topk={self.topk} asks for more classes than the {scores.size(1)} of the model.')
        if not ((labels >= 0) & (labels < scores.size(1))).all():
            raise ValueError(
                f'Expected labels of the {scores.size(1)} classes of the model, found {labels.min()} to '
                f'{labels.max()}: the test set has other classes than the model.'
            )
        values, classes = scores.topk(max(self.topk), 1)
        found = (classes == labels[:, None]) & (values > 0)
        hits = torch.stack([found[:, :k].any(1) for k in self.topk], 1)
        self.results.extend(bytes(row) for row in hits.tolist())

    def compute_metrics(self, results: list[bytes]) -> dict[str, float]:
        """Percentages, ``top1`` and so on."""
        hits = np.frombuffer(b''.join(results), np.uint8).reshape(len(results), -1)
        right = torch.from_numpy(hits.sum(0)).float() * (100.0 / len(results))  # rounded as mmpretrain's
        return {f'top{k}': value for k, value in zip(self.topk, right.tolist(), strict=True)}
