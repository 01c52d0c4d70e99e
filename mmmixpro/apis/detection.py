# Copyright (c) MMMixPro contributors.
from mmdet.apis import DetInferencer as MMDetInferencer

from .strict import StrictInferencer


class DetInferencer(StrictInferencer, MMDetInferencer):
    """mmdet's ``DetInferencer`` for our configs by name, loading strictly, see :class:`StrictInferencer`.

    It needs mmcv's compiled ops.

    Example:
        >>> inferencer = DetInferencer('detection/mask-rcnn_pvt-s_fpn_1x_coco', 'epoch_12.pth')
        >>> inferencer('street.jpg', out_dir='drawn')['predictions'][0]['labels'][:3]
        [0, 0, 2]
    """
