# Copyright (c) MMMixPro contributors.
"""Activation maps of a training set, computed once, and how they follow an image through its pipeline."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_random_params
from mmpretrain.datasets.transforms import RandomResizedCrop
from mmpretrain.registry import TRANSFORMS

TOOL = 'python tools/precompute_maps.py CONFIG --out FOLDER'


def map_name(path: str) -> str:
    """The name under which the map of an image is kept: its folder and file, wherever the data set lies."""
    return '/'.join(Path(path).parts[-2:])


class ContentMaps:
    """The maps of a folder that ``tools/precompute_maps.py`` has filled.

    Both files, maps ``(N, h, w)`` float16 and their sorted names, are mapped into memory: all workers share one copy,
    and none reads more than it needs. Pickled as the folder's name.

    Args:
        folder: The folder.

    Raises:
        FileNotFoundError: If there are no maps.
        ValueError: If some are still to be computed.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        meta = self.folder / 'meta.json'
        if not meta.is_file():
            raise FileNotFoundError(
                f"Expected activation maps in '{self.folder}', found none (no meta.json). Compute them: {TOOL}; for "
                'the configs of MMMixPro name the folder by the environment variable TOKENMIX_MAPS.'
            )
        self.meta: dict[str, Any] = json.loads(meta.read_text())
        self.names = np.load(self.folder / 'names.npy', mmap_mode='r')
        self.maps = np.load(self.folder / 'maps.npy', mmap_mode='r')
        if self.meta['done'] < len(self.names):
            raise ValueError(
                f"'{self.folder}' has the maps of {self.meta['done']} of {len(self.names)} images. Run the same "
                f'command again, it goes on where it stopped: {TOOL}.'
            )

    def __reduce__(self) -> tuple:
        return ContentMaps, (self.folder,)

    def __getitem__(self, path: str) -> np.ndarray:
        """The map of an image, ``(h, w)`` float16."""
        name = map_name(path).encode()
        # In the array's own type, for NumPy would copy the array into another.
        at = np.searchsorted(self.names, np.array(name, self.names.dtype))
        if at == len(self.names) or self.names[at] != name:
            raise ValueError(
                f"'{self.folder}' has the maps of {len(self.names)} images, none of '{path}' (kept as folder/file: "
                f"'{name.decode()}'). Compute them of the data that you train on: {TOOL}."
            )
        return self.maps[at]


class ContentMapWriter:
    """Fills a folder of maps, image by image in the order of their names, and goes on where it was stopped.

    Args:
        folder: The folder.
        paths: Files of the images.
        source: What the maps are made of, compared when it goes on.

    Raises:
        ValueError: If two images have one name, or if the folder has maps of other images or another source.
    """

    def __init__(self, folder: str | Path, paths: Sequence[str], source: dict):
        self.folder = Path(folder)
        self.source = json.loads(json.dumps(source))  # as it will be read, tuples are lists
        names = [map_name(path) for path in paths]
        self.order = sorted(range(len(names)), key=lambda i: names[i].encode())
        self.names = np.array([names[i].encode() for i in self.order])
        same = np.flatnonzero(self.names[1:] == self.names[:-1])
        if len(same):
            first, second = (paths[self.order[same[0] + i]] for i in (0, 1))
            raise ValueError(
                f"Maps are kept by folder and file, and '{first}' and '{second}' have the same. Rename one's folder."
            )
        self.done = 0
        self.maps: np.ndarray | None = None
        if (self.folder / 'meta.json').is_file():
            self._resume()

    def _resume(self) -> None:
        meta = json.loads((self.folder / 'meta.json').read_text())
        found = np.load(self.folder / 'names.npy')
        if meta['source'] != self.source or not np.array_equal(found, self.names):
            raise ValueError(
                f"'{self.folder}' holds the maps of {len(found)} images made by {meta['source']}; expected those of "
                f'{len(self.names)} images made by {self.source}. Name another folder, or remove this one.'
            )
        self.done = meta['done']
        self.maps = np.load(self.folder / 'maps.npy', mmap_mode='r+')

    def write(self, maps: np.ndarray) -> None:
        """Add the maps ``(n, h, w)``, not negative, of the next images in ``order``, each scaled to 1 at its peak."""
        if self.maps is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(self.folder / 'names.npy', self.names)
            shape = (len(self.names), *maps.shape[1:])
            self.maps = np.lib.format.open_memmap(self.folder / 'maps.npy', 'w+', np.float16, shape)
        peaks = maps.max((1, 2), keepdims=True)
        self.maps[self.done : self.done + len(maps)] = maps / np.where(peaks > 0, peaks, 1)
        self.done += len(maps)

    def flush(self) -> None:
        """What has been written so far need not be computed again."""
        assert isinstance(self.maps, np.memmap)
        self.maps.flush()
        part = self.folder / 'meta.part'
        part.write_text(json.dumps(dict(done=self.done, source=self.source)))
        part.replace(self.folder / 'meta.json')


Box = tuple[tuple[float, float], tuple[float, float]]


def crop_box(results: dict, top: int, left: int, height: int, width: int) -> Box:
    """Where a crop of ``results['img']`` lies in the image as it was loaded.

    Returns:
        Box: ``((top, bottom), (left, right))`` as shares of the image's height and width, before any flip.
    """
    full_height, full_width = results['img'].shape[:2]
    rows = (top / full_height, (top + height) / full_height)
    columns = (left / full_width, (left + width) / full_width)
    direction = results.get('flip_direction')
    if direction in ('vertical', 'diagonal'):
        rows = (1 - rows[1], 1 - rows[0])
    if direction in ('horizontal', 'diagonal'):
        columns = (1 - columns[1], 1 - columns[0])
    return rows, columns


@TRANSFORMS.register_module()
class TrackedRandomResizedCrop(RandomResizedCrop):
    """mmpretrain's RandomResizedCrop, same draws and pixels, that notes its box for :class:`LoadContentMap`.

    ``FastRandomResizedCrop`` does so too.
    """

    def transform(self, results: dict) -> dict:
        """See ``RandomResizedCrop``; adds ``crop_box``."""
        with cache_random_params(self):
            results['crop_box'] = crop_box(results, *self.rand_crop_params(results['img']))
            return super().transform(results)


def _reader(cells: int, span: tuple[float, float], size: int) -> np.ndarray:
    """``(size, cells)`` float32: the share of each part of the span that lies in each cell along one side."""
    edges = np.linspace(*span, size + 1) * cells
    overlap = np.minimum(edges[1:, None], np.arange(1, cells + 1)) - np.maximum(edges[:-1, None], np.arange(cells))
    return (overlap.clip(0) / (edges[1] - edges[0])).astype(np.float32)


@TRANSFORMS.register_module()
class LoadContentMap(BaseTransform):
    """Loads the activation map of an image, and crops and flips it as the image was.

    It stands after the crop and the flips: ``TrackedRandomResizedCrop`` or ``FastRandomResizedCrop``, and any
    ``RandomFlip``, in either order. What RandAugment moves (rotation, shear, translation) the map does not follow, nor
    what RandomErasing takes away. The map of the crop is the mean of the stored one over the area of each cell.

    Args:
        path: Folder that ``tools/precompute_maps.py`` has filled.
        size: Rows and columns of the map of the crop; best the tokens of the mask along a side.

    Raises:
        FileNotFoundError: If there are no maps.
        ValueError: If maps are missing, or, at the first image, if nothing tells where the crop was.
    """

    def __init__(self, path: str, size: int = 14):
        self.maps = ContentMaps(path)
        self.size = size

    def transform(self, results: dict) -> dict:
        """Add ``content``, ``(size, size)`` float16 in [0, 1], to an image with ``img_path`` and ``crop_box``."""
        if 'crop_box' not in results:
            raise ValueError(
                'LoadContentMap expects to know where the image was cropped, and found no crop_box. Put it after the '
                'crop, and make that one TrackedRandomResizedCrop or FastRandomResizedCrop.'
            )
        whole = self.maps[results['img_path']].astype(np.float32)
        rows, columns = (
            _reader(cells, span, self.size) for cells, span in zip(whole.shape, results['crop_box'], strict=True)
        )
        content = rows @ whole @ columns.T
        direction = results.get('flip_direction')
        if direction in ('vertical', 'diagonal'):
            content = content[::-1]
        if direction in ('horizontal', 'diagonal'):
            content = content[:, ::-1]
        results['content'] = np.ascontiguousarray(content, np.float16)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(path={str(self.maps.folder)!r}, size={self.size})'
