# Copyright (c) MMMixPro contributors.
"""Pascal Context from VOC2010 and trainval_merged.json, as mmseg's PascalContextDataset reads it."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..archives import put
from .common import alone, decode, fail, progress, pycocotools, read_json, require, sample

IMAGES = dict(train=4998, val=5105)
# Of the 459 labels of Pascal Context those of the 59 classes, in the order of mmseg's ids, which count from 1 (0 is the
# background); published with the Detail API and in mmseg's tools/dataset_converters/pascal_context.py.
CATEGORIES = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
CLASS_OF = {category: index for index, category in enumerate(CATEGORIES, 1)}
MASKS = 'SegmentationClassContext'
LISTS = 'ImageSets/SegmentationContext'
SHOULD_BE = "the folder VOC2010 of the archive VOCtrainval_03-May-2010.tar, 'VOCdevkit/VOC2010'"


def prepare_pascal_context(
    root: str | Path, annotations: str | Path | None = None, official: bool = True, num_decoded: int = 200
) -> list[str]:
    """Write the masks of 60 classes and the lists of both splits into VOC2010, and check them.

    Reads ``trainval_merged.json`` of the Detail API (PASCAL in Detail), without that package. Of its keys, ``images``
    (``image_id``, ``file_name``, ``height``, ``width``, ``phase``) and ``annos_segmentation`` (``id``, ``image_id``,
    ``category_id``, ``segmentation`` in COCO's compressed run lengths) matter. As the API draws a mask, a later
    annotation covers an earlier one.

    Masks are written one by one, lists last, each whole or not at all; a run that was stopped is continued.

    Args:
        root: VOC2010, with ``JPEGImages``.
        annotations: The annotation file; ``root/trainval_merged.json`` by default.
        official: Whether it must be all of Pascal Context; False for a part of it.
        num_decoded: How many images to decode, and masks to compare with the annotations.

    Returns:
        list[str]: A line on each split.

    Raises:
        FileNotFoundError: If something needed is missing.
        ImportError: Without pycocotools.
        RuntimeError: If another process writes to ``root``.
        ValueError: If something is broken or incomplete.
    """
    pycocotools()
    root = Path(root).expanduser()
    require(root / 'JPEGImages', f'images of Pascal VOC 2010: expected {SHOULD_BE}')
    path = Path(annotations).expanduser() if annotations else root / 'trainval_merged.json'
    require(path, 'the annotations of the Detail API (PASCAL in Detail)')
    content = read_json(path, ('images', 'annos_segmentation'))
    images, segments = _indexed(content, path)
    _check_annotations(images, segments, path, official)
    _check_files(images, root)
    with alone(root):
        (root / MASKS).mkdir(exist_ok=True)
        for image in progress(images, 'masks'):
            target = root / MASKS / _file(image, '.png')
            if not target.is_file():
                _write_mask(draw_mask(image, segments[image['image_id']]), target)
        chosen = sample(images, num_decoded)
        _check_sample(chosen, segments, root)
        (root / LISTS).mkdir(parents=True, exist_ok=True)
        for split in IMAGES:
            stems = sorted(_file(image, '') for image in images if image['phase'] == split)
            put(''.join(f'{stem}\n' for stem in stems).encode(), root / LISTS / f'{split}.txt')
    counts = Counter(image['phase'] for image in images)
    checked = Counter(image['phase'] for image in chosen)
    return [f'{root / LISTS / split}.txt: {counts[split]} images; {checked[split]} decoded' for split in IMAGES]


def draw_mask(image: Mapping[str, Any], segments: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Draw the annotations of an image.

    Returns:
        np.ndarray: ``(height, width)`` uint8, 0 background, 1 to 59 mmseg's classes.

    Raises:
        ImportError: Without pycocotools.
        ValueError: If an annotation is broken or of another size.
    """
    decode_runs = pycocotools().decode
    mask = np.zeros((image['height'], image['width']), np.uint8)
    for segment in segments:
        try:
            inside = decode_runs(segment['segmentation'])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"The mask of annotation {segment['id']} ('{image['file_name']}') is broken: {error!r}. Download the "
                'annotations again.'
            ) from None
        if inside.shape != mask.shape:
            raise ValueError(
                f'Expected the mask of annotation {segment["id"]} to be of the size {mask.shape} of '
                f"'{image['file_name']}', found {inside.shape}. Download the annotations again."
            )
        mask[inside > 0] = CLASS_OF[segment['category_id']]
    return mask


def _indexed(content: dict[str, Any], path: Path) -> tuple[list[dict], dict[Any, list[dict]]]:
    """The images that have a split, and the annotations of each image, in the order of the file."""
    try:
        segments: dict[Any, list[dict]] = {image['image_id']: [] for image in content['images']}
        # By their id, as the API keeps them.
        for segment in {segment['id']: segment for segment in content['annos_segmentation']}.values():
            segments[segment['image_id']].append(segment)
        images = [image for image in content['images'] if image['phase'] in IMAGES]
        for image in images:
            Path(image['file_name']), np.empty((image['height'], image['width']), bool)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{path}' is not the whole annotation file of the Detail API: {error!r}.") from None
    return images, segments


def _check_annotations(images: list[dict], segments: dict[Any, list[dict]], path: Path, official: bool) -> None:
    counts = Counter(image['phase'] for image in images)
    stems = Counter(_file(image, '') for image in images)
    categories = Counter(segment.get('category_id') for image in images for segment in segments[image['image_id']])
    problems = {
        'images': [
            f'expected {number} of {split}, found {counts[split]}'
            for split, number in IMAGES.items()
            if official and counts[split] != number
        ],
        'images listed twice': [stem for stem, number in stems.items() if number > 1],
        'categories beside the 59': [f'{name} ({num})' for name, num in categories.items() if name not in CLASS_OF],
    }
    fail(f"'{path}'", problems, 'Download it again; for a part of Pascal Context add --subset.')


def _check_files(images: list[dict], root: Path) -> None:
    there = {path.name for path in (root / 'JPEGImages').iterdir()}
    missing = [image['file_name'] for image in images if image['file_name'] not in there]
    fail(
        f"'{root / 'JPEGImages'}'",
        {'missing images': sorted(missing)},
        f'Unpack the archive again: expected {SHOULD_BE}.',
    )


def _check_sample(images: Sequence[dict], segments: Mapping[Any, Sequence[dict]], root: Path) -> None:
    """Compare what is on the disk, also of earlier runs, with the annotations."""
    problems: dict[str, list[str]] = {'broken images': [], 'masks that are not those of the annotations': []}
    for image in progress(images, 'decoding images'):
        name = image['file_name']
        try:
            size = decode((root / 'JPEGImages' / name).read_bytes())
            if size != (image['width'], image['height']):
                expected = f'{image["width"]} x {image["height"]}'
                problems['broken images'].append(f'{name} (expected {expected}, found {size[0]} x {size[1]})')
        except ValueError as error:
            problems['broken images'].append(f'{name} ({error})')
        path = root / MASKS / _file(image, '.png')
        try:
            with Image.open(path) as mask:
                same = np.array_equal(np.asarray(mask), draw_mask(image, segments[image['image_id']]))
        except OSError:
            same = False
        if not same:
            problems['masks that are not those of the annotations'].append(path.name)
    fail(
        f"'{root}'",
        problems,
        f"Unpack broken images again; if '{MASKS}' was written by something else, remove it. Then run the same command "
        'again.',
    )


def _write_mask(mask: np.ndarray, path: Path) -> None:
    content = io.BytesIO()
    Image.fromarray(mask).save(content, 'png')
    put(content.getvalue(), path, fsync=False)


def _file(image: Mapping[str, Any], suffix: str) -> str:
    return Path(image['file_name']).stem + suffix
