# Copyright (c) MMMixPro contributors.
"""Whether COCO 2017 is whole, as mmdet's CocoDataset reads it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .common import decode, fail, progress, pycocotools, read_json, require, sample

IMAGES = dict(train=118287, val=5000)
INSTANCES = dict(train=860001, val=36781)
CLASSES = 80


def check_coco(
    root: str | Path, splits: tuple[str, ...] = ('train', 'val'), official: bool = True, num_decoded: int = 500
) -> list[str]:
    """Check ``{train,val}2017/`` and ``annotations/instances_{train,val}2017.json``; writes nothing.

    Counts images, instances and classes, looks for every image that is listed, and at the fields of every annotation.
    Some images are decoded and compared with the size that the annotations state; their annotations are drawn.

    Args:
        root: Folder of COCO.
        splits: Of ``'train'`` and ``'val'``.
        official: Whether it must be all of COCO 2017; False for a part of it.
        num_decoded: How many images of each split to decode.

    Returns:
        list[str]: A line on each split.

    Raises:
        FileNotFoundError: If a folder or an annotation file is missing.
        ImportError: Without pycocotools.
        ValueError: If something is broken or incomplete; names all of it.
    """
    pycocotools()
    root = Path(root).expanduser()
    for split in splits:
        require(root / f'{split}2017', f'the images of the archive {split}2017.zip')
        require(_annotations(root, split), 'of the archive annotations_trainval2017.zip')
    return [_check_split(root, split, official, num_decoded) for split in splits]


def _annotations(root: Path, split: str) -> Path:
    return root / 'annotations' / f'instances_{split}2017.json'


def _check_split(root: Path, split: str, official: bool, num_decoded: int) -> str:
    path = _annotations(root, split)
    content = read_json(path, ('images', 'annotations', 'categories'))
    images, annotations, categories = content['images'], content['annotations'], content['categories']
    try:
        sizes = {image['id']: (image['width'], image['height']) for image in images}
        names = [image['file_name'] for image in images]
        known = {category['id'] for category in categories}
    except (KeyError, TypeError) as error:
        raise ValueError(f"'{path}' does not describe images as COCO does: {error!r}. Download it again.") from None
    expected = dict(images=IMAGES[split], instances=INSTANCES[split], classes=CLASSES)
    found = dict(images=len(sizes), instances=len(annotations), classes=len(known))
    there = {file.name for file in (root / f'{split}2017').iterdir()}
    problems: dict[str, list[str]] = {
        'counts': [
            f'{key}: expected {expected[key]}, found {found[key]}'
            for key in found
            if official and found[key] != expected[key]
        ],
        'missing images': sorted(name for name in names if name not in there),
        'broken annotations': [
            f'{_id(annotation)} ({fault})'
            for annotation in progress(annotations, f'annotations of {split}')
            if (fault := _fault(annotation, sizes, known))
        ],
        'broken images': [],
    }
    chosen = sample([image for image in images if image['file_name'] in there], num_decoded)
    of_image = defaultdict(list)
    for annotation in annotations:
        if isinstance(annotation, dict):
            of_image[annotation.get('image_id')].append(annotation)
    for image in progress(chosen, f'decoding images of {split}'):
        problems['broken images'] += _broken(root / f'{split}2017' / image['file_name'], sizes[image['id']])
        if not problems['broken annotations']:
            problems['broken annotations'] += _undrawable(of_image[image['id']], sizes[image['id']])
    fail(
        f"{split}2017 of '{root}'",
        problems,
        f'Unpack {split}2017.zip or annotations_trainval2017.zip again, or download it again. For a part of COCO add '
        '--subset.',
    )
    return (
        f'{root / f"{split}2017"}: {found["images"]} images, {found["instances"]} instances of {found["classes"]} '
        f'classes; {len(chosen)} images decoded'
    )


def _id(annotation: Any) -> Any:
    return annotation.get('id') if isinstance(annotation, dict) else annotation


def _fault(annotation: Any, sizes: Mapping[Any, Any], categories: set) -> str:
    """What is wrong with the fields of an annotation, or nothing."""
    try:
        if annotation['image_id'] not in sizes:
            return f'no image {annotation["image_id"]}'
        if annotation['category_id'] not in categories:
            return f'no category {annotation["category_id"]}'
        box, mask = annotation['bbox'], annotation['segmentation']
        if len(box) != 4 or not min(box[2:]) >= 0:
            return f'box {box}'
        if not isinstance(annotation['iscrowd'], int):
            return f'iscrowd {annotation["iscrowd"]}'
        if isinstance(mask, dict):
            return '' if {'counts', 'size'} <= mask.keys() else 'no run lengths'
        return '' if mask and all(polygon and len(polygon) % 2 == 0 for polygon in mask) else 'no polygons'
    except (KeyError, TypeError) as error:
        return repr(error)


def _broken(path: Path, expected: tuple[int, int]) -> list[str]:
    try:
        found = decode(path.read_bytes())
    except ValueError as error:
        return [f'{path.name} ({error})']
    if found != expected:
        return [f'{path.name} (expected {expected[0]} x {expected[1]}, found {found[0]} x {found[1]})']
    return []


def _undrawable(annotations: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> list[str]:
    mask = pycocotools()
    width, height = size
    faults = []
    for annotation in annotations:
        try:
            drawn = mask.decode(_runs(annotation['segmentation'], height, width))
            if drawn.shape != (height, width):
                faults.append(f'{annotation["id"]} (expected a mask of {height} x {width}, found {drawn.shape})')
        except Exception as error:  # pycocotools raises nothing narrower
            faults.append(f'{annotation["id"]} ({error!r})')
    return faults


def _runs(segmentation: Any, height: int, width: int) -> dict:
    """Compressed run lengths of a mask in any of COCO's forms, as pycocotools' ``COCO.annToRLE`` makes them."""
    mask = pycocotools()
    if isinstance(segmentation, list):
        return mask.merge(mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation['counts'], list):
        return mask.frPyObjects(segmentation, *segmentation['size'])
    return segmentation
