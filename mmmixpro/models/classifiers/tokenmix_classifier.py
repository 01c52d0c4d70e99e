# Copyright (c) MMMixPro contributors.
from dataclasses import replace
from typing import Any

from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmmixpro.mixing.tokenmix import TokenMixPlan
from mmmixpro.models.data_preprocessor import ContentDataPreprocessor

from .mix_classifier import MixClassifier


@MODELS.register_module()
class TokenMixClassifier(MixClassifier):
    """:class:`MixClassifier` for TokenMix with maps that were computed beforehand.

    Each sample comes with its activation map (:class:`~mmmixpro.datasets.LoadContentMap`),
    :class:`~mmmixpro.models.ContentDataPreprocessor` makes one tensor of them, and the plans of a
    :class:`~mmmixpro.mixing.TokenMix` without teacher get it here. With a teacher ``MixClassifier`` does.

    Args:
        backbone: Config of the backbone.
        **kwargs: See :class:`MixClassifier`; ``data_preprocessor.type`` is ``'ContentDataPreprocessor'``.

    Raises:
        ValueError: If the data preprocessor brings no maps, or if an argument does not fit.
    """

    brings_content = True

    def __init__(self, backbone: dict | nn.Module | None = None, **kwargs: Any):
        super().__init__(backbone, **kwargs)
        if not isinstance(self.data_preprocessor, ContentDataPreprocessor):
            raise ValueError(
                'TokenMixClassifier takes activation maps with the samples, and '
                f'{type(self.data_preprocessor).__name__} does not bring them. Set '
                "data_preprocessor.type='ContentDataPreprocessor', or take MixClassifier and a teacher."
            )

    def loss(self, inputs: Tensor, data_samples: Any) -> dict[str, Tensor]:
        """Mix a batch and compute its loss.

        Args:
            inputs: ``(N, C, H, W)`` images.
            data_samples: ``(N, num_classes)`` scores and ``(N, h, w)`` maps or None, as ``ContentDataPreprocessor``
                makes them.

        Returns:
            dict[str, Tensor]: ``loss``.

        Raises:
            ValueError: If the batch is mixed by TokenMix and there are no maps.
        """
        scores, content = data_samples
        augment = self.draw_augment()
        plan, images, target = self.mix(augment, inputs, scores)
        if isinstance(plan, TokenMixPlan) and plan.content is None and getattr(self.labels, 'needs_content', False):
            if content is None:
                raise ValueError(
                    'Expected an activation map with each sample, as the field content; found none. Put '
                    "dict(type='LoadContentMap', path=...) before PackInputs in the pipeline of train_dataloader, and "
                    "set PackInputs' algorithm_keys=['content']."
                )
            plan = replace(plan, content=content)
        return self._learn(augment, plan, images, scores, target)
