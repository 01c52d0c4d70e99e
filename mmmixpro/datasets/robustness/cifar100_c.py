# Copyright (c) MMMixPro contributors.
"""CIFAR-100-C: CIFAR-100's test images under 15 corruptions of 5 severities, as NumPy arrays."""

from pathlib import Path
from typing import Any

import numpy as np
from mmpretrain.datasets import CIFAR100
from mmpretrain.datasets.base_dataset import expanduser
from mmpretrain.registry import DATASETS

from .corruption_set import CorruptionSet
from .corruptions import SEVERITIES, Kind
from .samples import Rows

TEST_IMAGES = 10000  # of CIFAR-100; severity s is in the rows from (s - 1) * 10000 on


class MappedArray:
    """An array in a ``.npy`` file, mapped into memory: workers share it, and it is pickled as the file's name."""

    def __init__(self, path: str | Path):
        self.path = path
        self.array = np.load(path, mmap_mode='r')

    def __reduce__(self) -> tuple:
        return MappedArray, (self.path,)


@DATASETS.register_module()
class CIFAR100C(CorruptionSet):
    """CIFAR-100-C (https://arxiv.org/abs/1903.12261), 10,000 images for each corruption and severity.

    ``<data_root>/<corruption>.npy``, ``(50000, 32, 32, 3)`` uint8 in RGB, and ``labels.npy``. As with CIFAR-100 the
    images are in ``img`` already: the pipeline loads no file, and ``data_preprocessor.to_rgb`` is False.

    Args:
        data_root: The folder.
        **kwargs: Those of :class:`CorruptionSet`.

    Raises:
        FileNotFoundError: If files are missing.
        ValueError: If a file holds something else, or for an unknown corruption or severity.
    """

    METAINFO = CIFAR100.METAINFO
    TITLE = 'CIFAR-100-C'
    SOURCE = 'Unpack CIFAR-100-C.tar of https://zenodo.org/records/3555552; its folder CIFAR-100-C is this one.'

    def __init__(self, data_root: str, **kwargs: Any):
        super().__init__(ann_file='', data_root=expanduser(data_root), **kwargs)

    def load_data_list(self) -> Rows:
        root = Path(self.data_root)
        missing: dict[Kind, str] = {kind: '' for kind in self.kinds if not (root / f'{kind[0]}.npy').is_file()}
        self.check_missing(missing)
        self.there = [kind for kind in self.kinds if kind not in missing]
        rows = TEST_IMAGES * len(SEVERITIES)
        names = dict.fromkeys(name for name, _ in self.there)
        self.images = {name: self._open(root / f'{name}.npy', (rows, 32, 32, 3), np.uint8) for name in names}
        self.gt_labels = self._open(root / 'labels.npy', (rows,), np.integer)
        low, high = self.gt_labels.array.min(), self.gt_labels.array.max()
        if low < 0 or high >= len(self.METAINFO['classes']):
            raise ValueError(
                f"Expected labels from 0 to 99 in '{root / 'labels.npy'}', found {low} to {high}. {self.SOURCE}"
            )
        return Rows(self._sample, range(TEST_IMAGES * len(self.there)))

    def _open(self, path: Path, shape: tuple[int, ...], dtype: type) -> MappedArray:
        if not path.is_file():
            raise FileNotFoundError(f"Expected '{path}', found none. {self.SOURCE}")
        try:
            mapped = MappedArray(path)
        except (ValueError, EOFError) as error:
            raise ValueError(f"'{path}' is no whole .npy file ({error}). Copy it again. {self.SOURCE}") from None
        array = mapped.array
        if array.shape != shape or not np.issubdtype(array.dtype, dtype):
            raise ValueError(
                f"Expected '{path}' to be {shape} {dtype.__name__}, found {array.shape} {array.dtype}. {self.SOURCE}"
            )
        return mapped

    def _sample(self, row: int) -> dict:
        block, image = divmod(row, TEST_IMAGES)
        corruption, severity = self.there[block]
        at = (severity - 1) * TEST_IMAGES + image
        return dict(
            img=np.array(self.images[corruption].array[at]),
            gt_label=int(self.gt_labels.array[at]),
            corruption=corruption,
            severity=severity,
        )

    def extra_repr(self) -> list[str]:
        return [f'Root of dataset: \t{self.data_root}']
