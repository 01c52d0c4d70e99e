# Copyright (c) MMMixPro contributors.
from typing import Any

import numpy as np
import torch
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample, batch_label_to_onehot, cat_batch_labels
from torch import Tensor
from torch.nn import functional as F


@MODELS.register_module()
class MixDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's ``ClsDataPreprocessor``, for whole batches of labels; the default of
    :class:`MixClassifier`.

    In training the labels of a batch become one tensor of scores, moved to the device once and made
    one-hot there. mmpretrain makes one tensor for each image, which costs a GPU a few kernels per
    image and step. Images come out equal, and so does everything in evaluation. The images' copy to
    the device does not wait for it, given pinned memory (``train_dataloader.pin_memory``). mmpretrain's
    own ``ImageClassifier`` does not take such scores.

    Args:
        channels_last: Whether to lay the images out as ``(N, H, W, C)``, which convolutions on GPUs
            may prefer; their shape stays the same, and so does the layout of mixed images.
        **kwargs: See ``ClsDataPreprocessor``; ``num_classes`` is taken from the head.
    """

    def __init__(self, channels_last: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self._non_blocking = True
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: ``inputs`` and ``data_samples`` as the data loader collates them.
            training: Whether to make scores of the labels.

        Returns:
            dict: ``inputs`` ``(N, C, H, W)`` float32 and ``data_samples``: in training the float32
            scores ``(N, num_classes)``, otherwise a list of samples.

        Raises:
            ValueError: If the number of classes is not known.
        """
        samples = data.get('data_samples')
        if not training or samples is None:
            return super().forward(data, training)
        inputs = super().forward(dict(inputs=data['inputs']), training)['inputs']
        return dict(inputs=inputs.contiguous(memory_format=self.memory_format), data_samples=self._scores(samples))

    def _scores(self, samples: list[DataSample]) -> Tensor:
        if 'gt_score' in samples[0]:
            return self.cast_data(torch.stack([sample.gt_score for sample in samples])).float()
        labels, splits = cat_batch_labels([sample.gt_label for sample in samples])
        labels = self.cast_data(labels)
        num_classes = self.num_classes or samples[0].get('num_classes')
        if num_classes is None:
            raise ValueError('One-hot labels need the number of classes: set data_preprocessor.num_classes.')
        if all(len(sample.gt_label) == 1 for sample in samples):
            return F.one_hot(labels, num_classes).float()
        # Several labels an image.
        return self.cast_data(batch_label_to_onehot(labels, splits, num_classes)).float()


@MODELS.register_module()
class ContentDataPreprocessor(MixDataPreprocessor):
    """:class:`MixDataPreprocessor` for samples with activation maps, for :class:`TokenMixClassifier`.

    In training it returns the scores together with the maps of all samples, ``(N, h, w)`` float32, which are stacked
    on the host and moved to the device once; with None if no sample has one.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """See :meth:`MixDataPreprocessor.forward`.

        Raises:
            ValueError: If some samples have a map and others have none.
        """
        prepared = super().forward(data, training)
        samples = data.get('data_samples')
        if not training or samples is None:
            return prepared
        missing = [sample for sample in samples if 'content' not in sample]
        if len(missing) == len(samples):
            # Of no matter as long as nothing reads them, as in last epochs without mixing.
            prepared['data_samples'] = (prepared['data_samples'], None)
            return prepared
        if missing:
            raise ValueError(
                f'Expected an activation map with each sample, as the field content; {len(missing)} of {len(samples)} '
                "have none. Put dict(type='LoadContentMap', path=...) before PackInputs in the pipelines of "
                "train_dataloader, and set PackInputs' algorithm_keys=['content']."
            )
        content = self.cast_data(torch.from_numpy(np.stack([sample.content for sample in samples])))
        prepared['data_samples'] = (prepared['data_samples'], content.float())
        return prepared
