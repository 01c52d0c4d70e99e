# Copyright (c) MMMixPro contributors.
"""From the samples of a batch to what metrics count, in one transfer from the device."""

from collections.abc import Sequence

import torch
from numpy import ndarray
from torch import Tensor

# Half precision sums to 1 only roughly.
ABOVE_ONE = 1e-3


def read(samples: Sequence[dict], key: str, mend: str) -> list:
    """What the samples have under ``key``.

    Args:
        samples: As ``process`` of a metric gets them.
        key: A field or meta key of the samples.
        mend: What the user can do if it is missing.

    Raises:
        ValueError: If a sample does not have it.
    """
    for sample in samples:
        if key not in sample:
            found = ', '.join(sorted(sample)) or 'nothing'
            raise ValueError(f'expected {key!r} in each data sample, found {found} {name_sample(sample)}: {mend}')
    return [sample[key] for sample in samples]


def name_sample(sample: dict) -> str:
    return f'for {sample["img_path"]}' if sample.get('img_path') else 'in one'


def read_scores(samples: Sequence[dict]) -> Tensor:
    """The probabilities ``pred_score``, ``(N, C)``, at least float32 (half precision is too coarse to sum)."""
    scores = torch.stack(read(samples, 'pred_score', 'use a head that predicts scores of all classes'))
    if scores.ndim != 2:
        raise ValueError(f'expected pred_score of shape (classes,), found {tuple(scores.shape[1:])}')
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def read_target(samples: Sequence[dict], scores: Tensor) -> Tensor:
    """The index ``gt_label`` of the class of each sample, ``(N,)``, on the device of ``scores``."""
    labels = read(samples, 'gt_label', 'use a dataset with labels')
    target = torch.cat([label.reshape(-1) for label in labels])
    if len(target) != len(samples):
        raise ValueError(f'expected one gt_label per sample, found {len(target)} of {len(samples)} samples')
    return target.to(scores.device)


def read_subset(meta: dict | None, num_classes: int) -> list[int]:
    """The classes that a dataset is limited to, out of those of the model.

    Args:
        meta: The metainfo of the dataset.
        num_classes: How many classes the model knows.

    Raises:
        ValueError: If the dataset names none, or others than the model's.
    """
    subset = (meta or {}).get('subset')
    if subset is None:
        raise ValueError(
            "expected the classes of the dataset under 'subset' in its metainfo, found none: use a dataset that is "
            'limited to some of the classes, give metainfo=dict(subset=[...]), or ask for no subset'
        )
    subset = [int(label) for label in subset]
    if not subset or len(set(subset)) < len(subset) or min(subset) < 0 or max(subset) >= num_classes:
        raise ValueError(
            f"expected different indices of the model's {num_classes} classes under 'subset' in the metainfo of the "
            f'dataset, found {len(subset)} between {min(subset, default=None)} and {max(subset, default=None)}'
        )
    return subset


def top1(scores: Tensor, subset: list[int] | None = None) -> tuple[Tensor, Tensor]:
    """The most likely class and how likely it is.

    Args:
        scores: ``(N, C)``, as from a softmax over all classes.
        subset: Renormalise over these classes. Then the softmax is as if the model had only them.

    Returns:
        tuple: Confidence ``(N,)`` in [0, 1], NaN where all scores are 0, and the index ``(N,)`` among all C classes,
        of the first if several are equal.
    """
    if subset is None:
        confidence, label = scores.max(1)
        return confidence, label
    among = torch.as_tensor(subset, device=scores.device)
    scores = scores[:, among]
    confidence, place = scores.max(1)
    return confidence / scores.sum(1), among[place]


def to_host(samples: Sequence[dict], scores: Tensor, *columns: Tensor) -> ndarray:
    """The columns as one array; one transfer.

    Args:
        samples: Of the batch, to tell which one is wrong.
        scores: ``(N, C)``, checked.
        columns: ``(N,)`` each.

    Returns:
        ndarray: ``(len(columns), N)`` of the precision of ``scores``.

    Raises:
        ValueError: If a score is no probability, or a column has NaN, as :func:`top1` gives.
    """
    columns = scores.amin(1), scores.amax(1), *columns  # far quicker than aminmax
    table = torch.stack([column.to(scores.dtype) for column in columns]).detach().cpu().numpy()
    lowest, highest, *_ = table
    for index in (~((lowest >= 0) & (highest <= 1 + ABOVE_ONE))).nonzero()[0]:
        raise ValueError(
            f'expected pred_score between 0 and 1, found {lowest[index]:g} to {highest[index]:g} '
            f'{name_sample(samples[index])}: use a head whose scores are probabilities; NaN comes from the model'
        )
    for index in (table[2:] != table[2:]).any(0).nonzero()[0]:
        raise ValueError(
            'expected a pred_score above 0 for some class of the subset, found only 0 '
            f'{name_sample(samples[index])}: let the head predict in float32, where so little does not vanish'
        )
    return table[2:]


def check_target(target: ndarray, classes: list[int] | range) -> None:
    """Refuse labels of other classes.

    Raises:
        ValueError: If there are any.
    """
    other = set(target.astype(int).tolist()) - set(classes)
    if other:
        raise ValueError(
            f'expected gt_label out of {len(classes)} classes between {min(classes)} and {max(classes)}, found '
            f"{sorted(other)[:5]}: labels must be indices of the model's classes, and of the subset where there is one"
        )
