# Copyright (c) MMMixPro contributors.
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.models.utils.batch_augments import RandomBatchAugment
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmmixpro.attention import class_attention, class_attention_of
from mmmixpro.mixing import BatchMixer
from mmmixpro.structures import MixPlan

from .evaluating import evaluating
from .parts import build_augment, check_head, one_hot


@MODELS.register_module()
class MixClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier``, with mixing inside the loss, where the model is at hand.

    One forward pass of the mixed images gives logits and, where the label policy asks for it, class
    attention; both decide how much each of the two labels counts.

    Args:
        backbone: Config of the backbone.
        neck: Config of the neck.
        head: Config of the head: any that inherits the loss of mmpretrain's ``ClsHead``.
        labels: Config of the label policy, see :mod:`mmmixpro.labels`.
        train_cfg: ``dict(augments=[...], probs=[...])`` as in ``ImageClassifier``: each batch takes
            one augment; what ``probs`` leave to 1 stays unmixed. Augments of this package are
            labelled by ``labels``; mmpretrain's own (``Mixup``, ``CutMix``) keep their own labels.
        data_preprocessor: Config of the data preprocessor; ``type='MixDataPreprocessor'`` unless it
            names another.
        pretrained: Checkpoint of the whole classifier.
        init_cfg: Config of the initialisation.

    Raises:
        TypeError: If an argument is unknown, or if the classifier stands where a head belongs.
        ValueError: If the backbone lacks the class attention that ``labels`` need, if an augment
            does not fit the backbone's tokens or this classifier, if the head computes a loss of
            its own, or if ``data_preprocessor`` mixes too.
    """

    #: Told of each batch: ``observer(augment, plan, logits, target, weights)``, see ``MixProgressHook``.
    observer: Callable[..., None] | None = None

    def __init__(
        self,
        backbone: dict | nn.Module | None = None,
        neck: dict | nn.Module | None = None,
        head: dict | nn.Module | None = None,
        labels: dict = dict(type='AreaLabels'),
        train_cfg: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        pretrained: str | None = None,
        init_cfg: dict | list | None = None,
        **unknown: Any,
    ):
        name = type(self).__name__
        if backbone is None or head is None:
            raise TypeError(
                f'{name} is a classifier and needs a backbone and a head. It goes where ImageClassifier '
                f"goes, not in place of a head: model=dict(type='{name}', backbone=dict(...), "
                "head=dict(type='VisionTransformerClsHead', ...), train_cfg=dict(augments=[...]))."
            )
        if unknown:
            raise TypeError(
                f'{name} got unknown arguments {sorted(unknown)}; it takes backbone, neck, head, labels, '
                'train_cfg, data_preprocessor, pretrained and init_cfg.'
            )
        super().__init__(
            backbone, neck, head, pretrained, data_preprocessor=one_hot(data_preprocessor), init_cfg=init_cfg
        )
        check_head(self.head)
        if self.data_preprocessor.num_classes is None:
            self.data_preprocessor.num_classes = getattr(self.head, 'num_classes', None)
        self.labels = MODELS.build(labels)
        self.augment = build_augment(train_cfg)
        self.check_augments(self.augment)

    @property
    def mixers(self) -> list[BatchMixer]:
        """The augments of this package."""
        return [augment for augment in self.augment.augments if isinstance(augment, BatchMixer)]

    def init_weights(self) -> None:
        """Initialise the weights, and let the mixers load what they need; the runner calls it before training."""
        super().init_weights()
        for mixer in self.mixers:
            mixer.init_weights()

    def check_augments(self, augment: RandomBatchAugment) -> None:
        """Raise ValueError if an augment does not fit the backbone's tokens, or this classifier."""
        mixers = [mixer for mixer in augment.augments if isinstance(mixer, BatchMixer)]
        for mixer in mixers:
            mixer.check_model(self)
            if getattr(self.labels, 'needs_content', False) and not mixer.brings_content:
                raise ValueError(
                    f'{type(self.labels).__name__} weighs labels by what the images show where, which '
                    f'{type(mixer).__name__} does not tell. Take TokenMix for the mixer, or other labels.'
                )
        if self.labels.needs_attention:
            stride = class_attention_of(self.backbone).token_stride
            for mixer in mixers:
                mixer.check_token_stride(stride)

    def loss(self, inputs: Tensor, data_samples: Tensor | list[DataSample]) -> dict[str, Tensor]:
        """Mix a batch and compute its loss.

        Args:
            inputs: ``(N, C, H, W)`` images.
            data_samples: ``(N, num_classes)`` scores, as :class:`MixDataPreprocessor` makes them of
                labels, or N samples with ``gt_score``, as mmpretrain's does.

        Returns:
            dict[str, Tensor]: ``loss``.
        """
        scores = data_samples
        if not isinstance(scores, Tensor):
            scores = torch.stack([sample.gt_score for sample in data_samples]).float()
        augment = self.draw_augment()
        plan, images, target = self.mix(augment, inputs, scores)
        return self._learn(augment, plan, images, scores, target)

    def _learn(
        self, augment: Callable | None, plan: MixPlan | None, images: Tensor, scores: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """The loss of a batch that is mixed; tells the observer."""
        loss, *seen = self._loss(plan, images, scores, target)
        if self.observer is not None:
            self.observer(augment, plan, *seen)
        return dict(loss=loss)

    def _loss(
        self, plan: MixPlan | None, images: Tensor, scores: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Loss of a batch that is mixed, and its logits, its labels, and the weights that a plan has.

        ``target`` are the labels where there is no plan.
        """
        weights = None
        logits, attention = self._forward(images, with_attention=plan is not None and self.labels.needs_attention)
        # Labels and loss need float32, whatever the precision of the model.
        logits = logits.float()
        with torch.autocast(logits.device.type, enabled=False):
            if plan is not None:
                weights = self.labels(plan, attention, logits, scores)
                target = plan.mix_scores(scores, *weights)
            loss = self.head.loss_module(logits, target, avg_factor=len(logits))
        if plan is None:
            # Ranks draw augments of their own: one waits for the gradients of all, of learnable labels too.
            loss = loss + sum(0 * parameter.sum() for parameter in self.labels.parameters())
        return loss, logits, target, weights

    def draw_augment(self) -> Callable | None:
        """The augment of a batch; None leaves it as it is."""
        return self.augment.augments[np.random.choice(len(self.augment.augments), p=self.augment.probs)]

    def mix(self, augment: Callable | None, inputs: Tensor, scores: Tensor) -> tuple[MixPlan | None, Tensor, Tensor]:
        """Mix images by an augment.

        Returns:
            tuple[MixPlan | None, Tensor, Tensor]: The plan, images and labels. Without a plan the
            labels are final; with one they are still those of the unmixed images.
        """
        if isinstance(augment, BatchMixer):
            plan = augment.plan(inputs, self, scores)
            return plan, inputs if plan is None else plan.mix_images(inputs), scores
        if augment is None:
            return None, inputs, scores
        # mmpretrain's augments draw a permutation where torch's default is, and to index by one on the
        # host would wait for the device.
        with torch.device(inputs.device):
            return None, *augment(inputs, scores)

    def image_gradients(self, images: Tensor, scores: Tensor) -> Tensor:
        """Gradients of the losses of unmixed images with respect to them, in eval mode.

        The parameters keep the gradients that they have accumulated; what waits for theirs, such as
        DistributedDataParallel, sees nothing.

        Args:
            images: ``(N, C, H, W)``, left as they are.
            scores: ``(N, num_classes)`` labels.

        Returns:
            Tensor: ``(N, C, H, W)``, each of the loss of its own image.
        """
        images = images.detach().requires_grad_()
        with evaluating(self), torch.enable_grad():
            logits = self.head(self.extract_feat(images)).float()
            with torch.autocast(logits.device.type, enabled=False):
                # The sum of the losses: their mean would let float16's gradients vanish in large batches.
                loss = self.head.loss_module(logits, scores, avg_factor=1)
            try:
                (gradients,) = torch.autograd.grad(loss, images)
            except RuntimeError as error:
                if 'use_reentrant' not in str(error):
                    raise
                raise ValueError(
                    f'PuzzleMix takes gradients with respect to the images alone, and {type(self.backbone).__name__} '
                    'checkpoints its activations in a way that torch does not allow there. Set with_cp=False.'
                ) from error
        return gradients

    def _forward(self, images: Tensor, with_attention: bool) -> tuple[Tensor, Tensor | None]:
        """Logits and, where asked for, class attention, from one forward pass."""
        if not with_attention:
            return self.head(self.extract_feat(images)), None
        with class_attention(self.backbone, (images.size(2), images.size(3))) as tap:
            feats = self.extract_feat(images)
        return self.head(feats), tap.map
