# Copyright (c) MMMixPro contributors.
from typing import Any

from mmpretrain.registry import MODELS

from .mix_classifier import MixClassifier


@MODELS.register_module()
class PALClassifier(MixClassifier):
    """:class:`MixClassifier` with Progressive Attention Labeling, MixPro's classifier.

    Args:
        backbone: Config of the backbone.
        labels: Config of the label policy.
        **kwargs: See :class:`MixClassifier`.
    """

    def __init__(
        self, backbone: dict | None = None, labels: dict = dict(type='ProgressiveAttentionLabels'), **kwargs: Any
    ):
        super().__init__(backbone, labels=labels, **kwargs)
