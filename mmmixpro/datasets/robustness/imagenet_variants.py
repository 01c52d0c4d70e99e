# Copyright (c) MMMixPro contributors.
"""ImageNet-A, ImageNet-R, ImageNet-Sketch and ImageNet-V2."""

from mmpretrain.registry import DATASETS

from .classes import indices, wnids
from .folders import ImageNetFolders


@DATASETS.register_module()
class ImageNetA(ImageNetFolders):
    """ImageNet-A (https://arxiv.org/abs/1907.07174): 7,500 natural images that ResNet-50 gets wrong, of 200 classes.

    ``<data_root>/<wnid>/*``; see :class:`ImageNetFolders` for arguments and errors.
    """

    TITLE = 'ImageNet-A'
    NUM_IMAGES = 7500
    SOURCE = 'Unpack imagenet-a.tar of https://github.com/hendrycks/natural-adv-examples there.'

    def class_folders(self) -> dict[str, int]:
        return indices(wnids('imagenet_a'))


@DATASETS.register_module()
class ImageNetR(ImageNetFolders):
    """ImageNet-R (https://arxiv.org/abs/2006.16241): 30,000 paintings, toys, ... of 200 classes, other than A's.

    ``<data_root>/<wnid>/*``; see :class:`ImageNetFolders` for arguments and errors.
    """

    TITLE = 'ImageNet-R'
    NUM_IMAGES = 30000
    SOURCE = 'Unpack imagenet-r.tar of https://github.com/hendrycks/imagenet-r there.'

    def class_folders(self) -> dict[str, int]:
        return indices(wnids('imagenet_r'))


@DATASETS.register_module()
class ImageNetSketch(ImageNetFolders):
    """ImageNet-Sketch (https://arxiv.org/abs/1905.13549): 50,889 sketches of all 1000 classes.

    ``<data_root>/<wnid>/*``; see :class:`ImageNetFolders` for arguments and errors.
    """

    TITLE = 'ImageNet-Sketch'
    NUM_IMAGES = 50889
    SOURCE = 'Unpack the archive of https://github.com/HaohanWang/ImageNet-Sketch; its folder sketch is this one.'

    def class_folders(self) -> dict[str, int]:
        return indices(wnids())


@DATASETS.register_module()
class ImageNetV2(ImageNetFolders):
    """ImageNet-V2 (https://arxiv.org/abs/1902.10811): 10,000 new images, collected as the validation set was.

    ``<data_root>/<index>/*``: folders are named by the index of the class, from 0 to 999, and are not in order when
    they are sorted as names ('10' comes before '2'). Any of its three selections; published figures are mostly of
    ``matched-frequency``. See :class:`ImageNetFolders` for arguments and errors.
    """

    TITLE = 'ImageNet-V2'
    NUM_IMAGES = 10000
    SOURCE = (
        'Unpack imagenetv2-matched-frequency.tar.gz of https://github.com/modestyachts/ImageNetV2; its folder '
        'imagenetv2-matched-frequency-format-val is this one.'
    )

    def class_folders(self) -> dict[str, int]:
        return {str(index): index for index in range(1000)}
