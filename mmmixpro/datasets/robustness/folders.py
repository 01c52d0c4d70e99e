# Copyright (c) MMMixPro contributors.
"""Images of ImageNet's classes in a folder for each class, and what is said when some are missing."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmengine.fileio import get_file_backend
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset, ImageNet
from mmpretrain.datasets.base_dataset import expanduser

from .classes import wnids


class Listing(NamedTuple):
    """What a folder of classes holds.

    Attributes:
        files: Of each image its address and its label, by class in the order given, then by name.
        missing: Folders of classes that are not there, or without an image.
        found: What folders there are.
    """

    files: list[tuple[str, int]]
    missing: list[str]
    found: list[str]


def list_images(root: str, folders: Mapping[str, int]) -> Listing:
    """List the images below ``root``, a folder or an address such as ``zip://data/imagenet-r``.

    Args:
        root: Where the folders of the classes are.
        folders: Of each folder the label of its images.
    """
    backend = get_file_backend(root, enable_singleton=True)
    found = set(backend.list_dir_or_file(root, list_file=False)) if backend.isdir(root) else set()
    files, missing = [], []
    for folder, label in folders.items():
        inside = backend.join_path(root, folder)
        names = backend.list_dir_or_file(inside, list_dir=False) if folder in found else []
        images = sorted(name for name in names if name.lower().endswith(ImageNet.IMG_EXTENSIONS))
        files += [(backend.join_path(inside, name), label) for name in images]
        if not images:
            missing.append(folder)
    return Listing(files, missing, sorted(found))


def some(names: list[str], num: int = 3) -> str:
    """The first of many names."""
    return ', '.join(names[:num]) + (', ...' if len(names) > num else '')


class ImageNetFolders(BaseDataset):
    """A test set of ImageNet's classes with a folder for each class; labels are indices among the 1000.

    Where it has not all classes, ``metainfo['subset']`` lists the indices of those it has, in rising order.

    Args:
        data_root: The folder, or the address of an archive (``zip://``, ``lmdb://``).
        metainfo: More meta information.
        **kwargs: Those of mmpretrain's ``BaseDataset``, such as ``pipeline``.

    Raises:
        FileNotFoundError: If classes are missing.
        ValueError: If there are other classes of ImageNet, or if ``metainfo`` has a ``subset``.
        ImportError: Without timm, which lists the classes.
    """

    METAINFO = ImageNet.METAINFO
    TITLE: str
    NUM_IMAGES: int
    SOURCE: str  # how to get it

    def __init__(self, data_root: str, metainfo: dict | None = None, **kwargs: Any):
        self.folders = self.class_folders()
        if 'subset' in (metainfo or {}):
            raise ValueError(
                f"{type(self).__name__} has the {len(self.folders)} classes of {self.TITLE}, found metainfo['subset'] "
                'too: leave it out. A CustomDataset takes other classes.'
            )
        if len(self.folders) < len(self.METAINFO['classes']):
            metainfo = dict(subset=sorted(self.folders.values()), **(metainfo or {}))
        super().__init__(ann_file='', data_root=expanduser(data_root), metainfo=metainfo, **kwargs)

    def class_folders(self) -> dict[str, int]:
        """The folder of each class, and its label."""
        raise NotImplementedError

    def load_data_list(self) -> Sequence[dict]:
        """List the images, in the order of their labels."""
        files = self.list_all(self.data_root, self.TITLE, self.NUM_IMAGES, self.SOURCE)
        return [dict(img_path=path, gt_label=label) for path, label in files]

    def list_all(
        self, root: str, title: str, num: int, source: str, more_classes: bool = False
    ) -> list[tuple[str, int]]:
        """List the images of all classes, of which none may be missing.

        Args:
            root: Where the folders of the classes are.
            title: What is expected there.
            num: How many images it has as published; another number is warned about.
            source: How to get it.
            more_classes: Whether there may be other classes too.
        """
        files, missing, found = list_images(root, self.folders)
        if missing:
            there = f'{len(self.folders) - len(missing)} of them' if files else 'none of them'
            raise FileNotFoundError(
                f"Expected {title} in '{root}', images in a folder for each of {len(self.folders)} classes; found "
                f'{there}, without {some(missing)} (folders there: {some(found) or "none"}). {source}'
            )
        others = sorted(set(found) & set(wnids()) - set(self.folders))
        if others and not more_classes:
            raise ValueError(
                f"Expected {title} in '{root}', which has {len(self.folders)} classes; found {len(others)} other "
                f'classes of ImageNet too: {some(others)}. Is it another set? {source}'
            )
        if len(files) != num:
            print_log(
                f"Expected {title} in '{root}' to have {num} images, found {len(files)}: figures will not compare "
                'with published ones.',
                logger='current',
                level=logging.WARNING,
            )
        return files

    def extra_repr(self) -> list[str]:
        return [f'Root of dataset: \t{self.data_root}']
