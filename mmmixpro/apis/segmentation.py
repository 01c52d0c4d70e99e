# Copyright (c) MMMixPro contributors.
from os import PathLike
from typing import Any

from mmengine.config import Config
from mmseg.apis import MMSegInferencer

from .strict import StrictInferencer


class SegInferencer(StrictInferencer, MMSegInferencer):
    """mmseg's ``MMSegInferencer`` for our configs by name, loading strictly, see :class:`StrictInferencer`.

    It draws with the names and colours of the checkpoint's classes, or of the config's dataset, where mmseg's takes
    those of Cityscapes unless told otherwise.

    Example:
        >>> config = 'segmentation/segmenter_deit-s_8xb2-80k_pascal-context-480x480'
        >>> SegInferencer(config, 'iter_80000.pth')('street.jpg', out_dir='drawn')['predictions'].shape
        (480, 640)
    """

    def __init__(self, model: str | PathLike | Config, weights: str, **kwargs: Any):
        super().__init__(model, weights, **kwargs)
        if not {'classes', 'palette', 'dataset_name'} & kwargs.keys():
            self.visualizer.set_dataset_meta(**self.model.dataset_meta)
