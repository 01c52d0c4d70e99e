# Copyright (c) MMMixPro contributors.
"""ImageNet-C: ImageNet's validation images under 15 corruptions of 5 severities, as files."""

import logging
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from mmengine.dist import is_main_process
from mmengine.fileio import join_path
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS
from rich.console import Console
from rich.progress import track

from .classes import indices, wnids
from .corruption_set import CorruptionSet
from .corruptions import Kind
from .folders import ImageNetFolders, list_images, some
from .samples import Rows


@DATASETS.register_module()
class ImageNetC(CorruptionSet, ImageNetFolders):
    """ImageNet-C (https://arxiv.org/abs/1903.12261), 50,000 images for each corruption and severity.

    ``<data_root>/<corruption>/<severity>/<wnid>/*``. Samples come in the order of the corruptions, in each of the
    severities, in each of the labels.

    The images are the 224 px crops of the validation images (short side 256 px), corrupted and saved as JPEG. The
    authors' ``test.py`` takes them as they are. A pipeline that resizes to 256 px and crops again sees a part of them
    only, so ``configs/_base_/robustness/imagenet-c.py`` has one of its own.

    Args:
        data_root: The folder, or the address of an archive (``zip://``, ``lmdb://``): of all, or of each corruption.
        **kwargs: Those of :class:`CorruptionSet`.

    Raises:
        FileNotFoundError: If corruptions, severities or classes are missing.
        ValueError: For an unknown corruption or severity.
        ImportError: Without timm, which lists the classes.
    """

    TITLE = 'ImageNet-C'
    NUM_IMAGES = 50000  # for each corruption and severity
    SOURCE = (
        'Unpack blur.tar, digital.tar, noise.tar, weather.tar (and extra.tar) of https://zenodo.org/records/2235448 '
        'there, so that it has <corruption>/<severity>/<wnid>.'
    )

    def class_folders(self) -> dict[str, int]:
        return indices(wnids())

    def load_data_list(self) -> Sequence[dict]:
        names, labels, sizes = [], [], []
        missing: dict[Kind, str] = {}
        # 75,000 folders take a while.
        console = Console(stderr=True)
        hidden = not is_main_process()
        for kind in track(self.kinds, f'Listing {self.TITLE}', console=console, transient=True, disable=hidden):
            files, lacking, _ = list_images(self._folder(kind), self.folders)
            if lacking:
                missing[kind] = (
                    f'{len(lacking)} of {len(self.folders)} classes, such as {some(lacking)}' if files else ''
                )
            names.append(np.array([path.rpartition('/')[2].encode() for path, _ in files], dtype='S'))
            labels.append(np.array([label for _, label in files], dtype=np.int16))
            sizes.append(len(files))
        self.check_missing(missing)
        self._check_sizes(sizes)
        self.names, self.labels = np.concatenate(names), np.concatenate(labels)
        self.starts = [0, *accumulate(sizes)]
        return Rows(self._sample, range(self.starts[-1]))

    def _folder(self, kind: Kind) -> str:
        return join_path(self.data_root, kind[0], str(kind[1]))

    def _check_sizes(self, sizes: list[int]) -> None:
        odd = {kind: size for kind, size in zip(self.kinds, sizes, strict=True) if size not in (0, self.NUM_IMAGES)}
        if odd:
            (corruption, severity), size = next(iter(odd.items()))
            print_log(
                f"Expected each corruption and severity in '{self.data_root}' to have {self.NUM_IMAGES} images; "
                f'{len(odd)} of {len(sizes)} have not, such as {corruption}/{severity} with {size}: figures will not '
                'compare with published ones.',
                logger='current',
                level=logging.WARNING,
            )

    def _sample(self, row: int) -> dict:
        kind = self.kinds[bisect_right(self.starts, row) - 1]
        label = int(self.labels[row])
        path = join_path(self._folder(kind), wnids()[label], self.names[row].decode())
        return dict(img_path=path, gt_label=label, corruption=kind[0], severity=kind[1])
