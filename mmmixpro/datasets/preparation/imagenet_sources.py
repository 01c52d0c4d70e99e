# Copyright (c) MMMixPro contributors.
"""Where the images of ImageNet come from: official archives, or folders."""

import hashlib
import io
import re
import tarfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from .common import progress, require

TARS = dict(train='ILSVRC2012_img_train.tar', val='ILSVRC2012_img_val.tar')
DEVKIT = 'ILSVRC2012_devkit_t12.tar.gz'
EXTENSIONS = ('.jpeg', '.jpg', '.png')  # of images in folders
# A class and an image, nothing that leads elsewhere.
NAME = re.compile(r'\w[\w.-]*/\w[\w.-]*')
VAL_NAME = re.compile(r'ILSVRC2012_val_(\d{8})\.JPEG')

Images = Iterator[tuple[str, Callable[[], bytes]]]


class DevKit:
    """The development kit: the classes, and which of them each validation image shows.

    Attributes:
        train_counts: How many training images each class has, by wnid.
        val_wnids: What the validation images show, from the first on.

    Args:
        path: ``ILSVRC2012_devkit_t12.tar.gz``.

    Raises:
        FileNotFoundError: If it is missing.
        ImportError: Without SciPy.
        ValueError: If it is broken.
    """

    def __init__(self, path: Path):
        self.path = path
        require(path, f'the development kit, which says what validation images show ({DEVKIT} of image-net.org)')
        try:
            from scipy.io import loadmat
            from scipy.io.matlab import MatReadError
        except ImportError:
            raise ImportError("The development kit's meta.mat is read by SciPy: pip install scipy.") from None
        try:
            with tarfile.open(path) as tar:
                meta, truth = (
                    _content(tar, f'ILSVRC2012_devkit_t12/data/{name}')
                    for name in ('meta.mat', 'ILSVRC2012_validation_ground_truth.txt')
                )
            synsets = loadmat(io.BytesIO(meta), squeeze_me=True)['synsets']
            # The others are no classes but what several of them have in common.
            leaves = synsets[synsets['num_children'] == 0]
            wnids = {int(leaf['ILSVRC2012_ID']): str(leaf['WNID']) for leaf in leaves}
            self.train_counts = {str(leaf['WNID']): int(leaf['num_train_images']) for leaf in leaves}
            self.val_wnids = [wnids[int(line)] for line in truth.split()]
        except (tarfile.TarError, zlib.error, MatReadError, OSError, EOFError, LookupError, ValueError) as error:
            raise ValueError(f"'{path}' is not the development kit, or broken: {error!r}. Download it again.") from None

    def val_names(self) -> list[str]:
        """The validation images, each in the folder of its class."""
        return [f'{wnid}/ILSVRC2012_val_{number:08d}.JPEG' for number, wnid in enumerate(self.val_wnids, 1)]

    def val_wnid(self, image: str) -> str:
        """The class of a validation image, by the number in its name."""
        match = VAL_NAME.fullmatch(image)
        if match is None or not 1 <= int(match[1]) <= len(self.val_wnids):
            raise ValueError(
                f'Expected validation images ILSVRC2012_val_00000001.JPEG to {len(self.val_wnids):08d}.JPEG, found '
                f"'{image}'."
            )
        return self.val_wnids[int(match[1]) - 1]


class Source(ABC):
    """The images of a split.

    Attributes:
        split: ``'train'`` or ``'val'``.
        path: The archive or folder.
        laid_out: The folder, if they are in folders of their classes already.
    """

    split: str
    path: Path
    laid_out: Path | None = None

    @abstractmethod
    def images(self) -> Images:
        """The images: ``<wnid>/<file>``, always in the same order, and a function that reads it until the next.

        Raises:
            tarfile.TarError: If an archive is broken, also by what reads.
            ValueError: If something else is wrong.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What differs, of JSON's types, where the images may be others: places, sizes and times of files.

        Raises:
            ValueError: If a file is empty, or no image of a class.
        """


class TrainTar(Source):
    """The archive of an archive for each class."""

    split = 'train'

    def __init__(self, tar: Path):
        self.path = tar

    def images(self) -> Images:
        with tarfile.open(self.path, 'r:') as outer:
            for member in outer:
                wnid = member.name.removesuffix('.tar')
                with tarfile.open(fileobj=_open(outer, member), mode='r:') as inner:
                    for image in inner:
                        yield _safe(f'{wnid}/{image.name}', self.path), partial(_content, inner, image)

    def state(self) -> dict[str, Any]:
        return _state(self.path)


class ValTar(Source):
    """The archive of validation images, and the development kit."""

    split = 'val'

    def __init__(self, tar: Path, devkit: DevKit):
        self.path = tar
        self.devkit = devkit

    def images(self) -> Images:
        with tarfile.open(self.path, 'r:') as tar:
            for image in tar:
                name = Path(image.name).name
                yield f'{self.devkit.val_wnid(name)}/{name}', partial(_content, tar, image)

    def state(self) -> dict[str, Any]:
        return dict(_state(self.path), devkit=_state(self.devkit.path))


class FolderSource(Source):
    """Images in files of their own."""

    @abstractmethod
    def files(self) -> Iterator[tuple[str, Path]]:
        """The images: ``<wnid>/<file>`` and where it is, always in the same order."""

    def images(self) -> Images:
        for name, path in self.files():
            yield name, path.read_bytes

    def state(self) -> dict[str, Any]:
        digest = hashlib.md5()
        for name, path in progress(self.files(), f'looking through {self.path.name}'):
            stat = path.stat()
            if not stat.st_size:
                raise ValueError(f"'{path}' is empty. Copy it again, then run the same command again.")
            digest.update(f'{name} {stat.st_size} {stat.st_mtime_ns}\n'.encode())
        return dict(path=str(self.path.absolute()), files=digest.hexdigest())


class FlatVal(FolderSource):
    """A folder of validation images, and the development kit."""

    split = 'val'

    def __init__(self, folder: Path, devkit: DevKit):
        self.path = folder
        self.devkit = devkit

    def files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.path.glob('*.JPEG')):
            yield f'{self.devkit.val_wnid(path.name)}/{path.name}', path


class ClassFolders(FolderSource):
    """A folder of a folder for each class."""

    def __init__(self, split: str, folder: Path):
        self.split = split
        self.path = self.laid_out = folder

    def files(self) -> Iterator[tuple[str, Path]]:
        for folder in sorted(path for path in self.path.iterdir() if path.is_dir()):
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in EXTENSIONS:
                    yield _safe(f'{folder.name}/{path.name}', self.path), path


def find_source(folder: Path, split: str) -> Source:
    """What of a split is in a folder: the official archive, else a folder named after the split.

    Raises:
        FileNotFoundError: If there is neither, or no development kit where it is needed.
        ValueError: If the development kit is broken.
    """
    tar, images = folder / TARS[split], folder / split
    if not tar.is_file():
        require(images, f'a folder with a folder for each class, or {TARS[split]} beside it')
        if any(path.is_dir() for path in images.iterdir()):
            return ClassFolders(split, images)
    if split == 'train':
        return TrainTar(require(tar, "the official archive, for its folder 'train' has no folders of classes"))
    devkit = DevKit(folder / DEVKIT)
    return ValTar(tar, devkit) if tar.is_file() else FlatVal(images, devkit)


def _state(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return dict(path=str(path.absolute()), size=stat.st_size, mtime_ns=stat.st_mtime_ns)


def _open(tar: tarfile.TarFile, member: tarfile.TarInfo | str) -> IO[bytes]:
    file = tar.extractfile(member)
    if file is None:
        raise tarfile.ReadError(f'{member} is no file')
    return file


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo | str) -> bytes:
    return _open(tar, member).read()


def _safe(name: str, where: Path) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"Expected '{where}' to have images of classes, such as n01440764/x.JPEG; found '{name}'.")
    return name
