# Copyright (c) MMMixPro contributors.
"""Parts of a classifier, built from their configs and checked."""

from typing import Any

from mmpretrain.models.heads import ClsHead
from mmpretrain.models.utils.batch_augments import RandomBatchAugment
from mmpretrain.registry import MODELS
from torch import nn


def build_augment(train_cfg: dict | None) -> RandomBatchAugment:
    """The augments of ``train_cfg`` and their shares of the batches."""
    train_cfg = dict(train_cfg or dict(augments=[], probs=[]))
    unknown = set(train_cfg) - {'augments', 'probs'}
    if unknown:
        raise TypeError(f'train_cfg got unknown arguments {sorted(unknown)}; it takes augments and probs.')
    augments, probs = train_cfg.get('augments') or [], train_cfg.get('probs')
    augments = list(augments) if isinstance(augments, (list, tuple)) else [augments]
    if not augments:
        return RandomBatchAugment([], probs=[])
    if probs is not None:
        # A copy, for RandomBatchAugment appends to the list that it is given.
        probs = list(probs) if isinstance(probs, (list, tuple)) else [probs]
        if len(probs) != len(augments) or min(probs) < 0 or sum(probs) > 1:
            raise ValueError(
                f'train_cfg.probs={probs} must give each of the {len(augments)} augments its share of the batches, '
                'at most 1 in all.'
            )
    return RandomBatchAugment(augments, probs)


def one_hot(data_preprocessor: dict | nn.Module | None) -> nn.Module:
    """The data preprocessor, with one-hot labels, and checked not to mix before us."""
    built: Any = data_preprocessor
    if not isinstance(data_preprocessor, nn.Module):
        built = MODELS.build(dict(dict(type='MixDataPreprocessor'), **(data_preprocessor or {})))
    if built.batch_augments is not None:
        raise ValueError(
            'data_preprocessor.batch_augments would mix each batch a second time, before the classifier '
            'does. Move the augments to model.train_cfg.'
        )
    built.to_onehot = True
    return built


def check_head(head: nn.Module) -> None:
    """Refuse heads whose loss is not that of logits and one target, for it would be passed by."""
    if not (
        isinstance(head, ClsHead) and type(head).loss is ClsHead.loss and type(head)._get_loss is ClsHead._get_loss
    ):
        raise ValueError(
            f'{type(head).__name__} computes a loss of its own, which mixed labels would bypass. Use a '
            'head that inherits the loss of ClsHead, such as LinearClsHead or VisionTransformerClsHead.'
        )
    if head.cal_acc:
        raise ValueError('head.cal_acc=True: accuracy against one label means nothing on mixed images; remove it.')
