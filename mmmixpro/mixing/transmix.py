# Copyright (c) MMMixPro contributors.
from mmpretrain.registry import BATCH_AUGMENTS

from .cutmix import CutMixBatchAugment


@BATCH_AUGMENTS.register_module()
class TransMixBatchAugment(CutMixBatchAugment):
    """The image half of TransMix: CutMix's box, one for the whole batch.

    `TransMix: Attend to Mix for Vision Transformers <https://arxiv.org/abs/2111.09833>`_. Its
    labels are :class:`~mmmixpro.labels.AttentionLabels`. Arguments are those of :class:`CutMixBatchAugment`.
    """
