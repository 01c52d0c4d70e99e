# Copyright (c) MMMixPro contributors.
"""Small data sets in the formats of their downloads."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.io import savemat

from mmmixpro.datasets.preparation import coco, imagenet, pascal_context

# By their ILSVRC2012_ID from 1, which is not the order of their wnids; and how many images each has.
WNIDS = {'n02119789': 5, 'n01440764': 3, 'n02100735': 4}
# What the validation images 1 to 6 show.
TRUTH = (2, 1, 3, 3, 1, 2)


def jpeg(seed, size=(20, 15)):
    """A JPEG file of noise; ``size`` is width and height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, 'jpeg', quality=30)
    return content.getvalue()


def tar(files, mode='w'):
    """A tar archive as bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def train_images():
    names = [f'{wnid}/{wnid}_{i + 1}.JPEG' for wnid, num in WNIDS.items() for i in range(num)]
    return {name: jpeg(seed) for seed, name in enumerate(names)}


def val_images():
    wnids = list(WNIDS)
    names = [f'{wnids[i - 1]}/ILSVRC2012_val_{n:08d}.JPEG' for n, i in enumerate(TRUTH, 1)]
    return {name: jpeg(100 + seed) for seed, name in enumerate(names)}


def devkit():
    """The development kit: its classes come before what several of them have in common, a synset with children."""
    meta = io.BytesIO()
    fields = 'ILSVRC2012_ID WNID words gloss num_children children wordnet_height num_train_images'
    synsets = np.zeros((len(WNIDS) + 1, 1), [(name, object) for name in fields.split()])
    for i, (wnid, num) in enumerate(WNIDS.items()):
        synsets[i, 0] = (float(i + 1), wnid, f'word {i}, other', 'a gloss', 0.0, np.zeros((1, 0)), 0.0, float(num))
    synsets[-1, 0] = (1001.0, 'n00001740', 'entity', 'all', 3.0, np.arange(3.0), 19.0, 0.0)
    savemat(meta, dict(synsets=synsets), do_compression=True)
    folder = 'ILSVRC2012_devkit_t12'
    files = {
        f'{folder}/readme.txt': b'ILSVRC2012',
        f'{folder}/data/meta.mat': meta.getvalue(),
        f'{folder}/data/ILSVRC2012_validation_ground_truth.txt': ''.join(f'{i}\n' for i in TRUTH).encode(),
    }
    return tar(files, 'w:gz')


def write_imagenet_downloads(folder):
    """The three downloads; what is published about them is to be set by :func:`imagenet_published`."""
    folder.mkdir(parents=True)
    images = train_images()
    classes = {
        f'{wnid}.tar': tar({name.split('/')[1]: data for name, data in images.items() if name.startswith(wnid)})
        for wnid in sorted(WNIDS)
    }
    (folder / 'ILSVRC2012_img_train.tar').write_bytes(tar(classes))
    (folder / 'ILSVRC2012_img_val.tar').write_bytes(
        tar({name.split('/')[1]: data for name, data in val_images().items()})
    )
    (folder / 'ILSVRC2012_devkit_t12.tar.gz').write_bytes(devkit())


def publish_imagenet(downloads, monkeypatch: pytest.MonkeyPatch):
    """Let the miniature be the published ImageNet."""
    sums = {name: hashlib.md5((downloads / name).read_bytes()).hexdigest() for name in imagenet.MD5}
    monkeypatch.setattr(imagenet, 'MD5', sums)
    monkeypatch.setattr(imagenet, 'IMAGES', dict(train=12, val=6))
    monkeypatch.setattr(imagenet, 'CLASSES', 3)


def write_folders(root, images):
    for name, data in images.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def runs(mask):
    """COCO's compressed run lengths, as JSON has them."""
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(size=encoded['size'], counts=encoded['counts'].decode())


def voc_images():
    """``image_id``, split and size (width, height) by file."""
    return {
        '2008_000002.jpg': (2008000002, 'val', (20, 15)),
        '2008_000003.jpg': (2008000003, 'train', (12, 18)),
        '2010_000001.jpg': (2010000001, 'train', (16, 16)),
        '2010_000009.jpg': (2010000009, 'val', (10, 11)),
    }


def voc_annotations(seed=0):
    """As trainval_merged.json: overlapping rectangles of classes, one image without any."""
    rng = np.random.default_rng(seed)
    images, segments = [], []
    for file, (image_id, phase, (width, height)) in voc_images().items():
        images.append(
            dict(
                file_name=file, date_captured='31-Dec-2010', height=height, width=width, image_id=image_id, phase=phase
            )
        )
        for _ in range(0 if file == '2010_000009.jpg' else 6):
            mask = np.zeros((height, width), np.uint8)
            top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
            mask[top : top + rng.integers(2, height), left : left + rng.integers(2, width)] = 1
            segments.append(
                dict(
                    id=len(segments) + 1,
                    image_id=image_id,
                    category_id=int(rng.choice(pascal_context.CATEGORIES)),
                    segmentation=runs(mask),
                    area=int(mask.sum()),
                    bbox=[int(left), int(top), 2, 2],
                    iscrowd=int(rng.integers(2)),
                    parts=[],
                )
            )
    # The annotations of an image do not stand together.
    segments = [segments[i] for i in rng.permutation(len(segments))]
    categories = [
        dict(category_id=i, name=str(i), supercategory='object', onlysemantic=0, parts=[])
        for i in pascal_context.CATEGORIES
    ]
    return dict(
        info=dict(description='PASCAL in Detail'),
        images=images,
        annos_segmentation=segments,
        annos_occlusion=[],
        annos_boundary=[],
        annos_joints=[],
        categories=categories,
        parts=[],
    )


def write_voc2010(root, monkeypatch: pytest.MonkeyPatch):
    """VOC2010 with trainval_merged.json, published as the whole of Pascal Context."""
    write_folders(root, {f'JPEGImages/{name}': jpeg(i, spec[2]) for i, (name, spec) in enumerate(voc_images().items())})
    (root / 'JPEGImages' / '2007_000001.jpg').write_bytes(jpeg(9))  # of VOC2010, not of Pascal Context
    (root / 'trainval_merged.json').write_text(json.dumps(voc_annotations()))
    monkeypatch.setattr(pascal_context, 'IMAGES', dict(train=2, val=2))


def write_coco(root, monkeypatch: pytest.MonkeyPatch):
    """COCO 2017, published as the whole of it: two images of each split; polygons and a crowd."""
    for split, first in dict(train=10, val=20).items():
        sizes = {first: (20, 15), first + 1: (12, 18)}
        write_folders(root, {f'{split}2017/{i:012d}.jpg': jpeg(i, size) for i, size in sizes.items()})
        images = [
            dict(id=i, file_name=f'{i:012d}.jpg', width=width, height=height, license=1)
            for i, (width, height) in sizes.items()
        ]
        crowd = dict(size=[15, 20], counts=[30, 20, 250])
        polygons = [[1.5, 2, 9, 2, 9, 8.5, 1.5, 8], [10, 10, 11, 10, 11, 12]]
        annotations = [
            dict(id=1, image_id=first, category_id=1, bbox=[1.5, 2, 7.5, 6.5], iscrowd=0, segmentation=polygons),
            dict(id=2, image_id=first, category_id=90, bbox=[2, 0, 2, 15], iscrowd=1, segmentation=crowd),
            dict(id=3, image_id=first + 1, category_id=1, bbox=[0, 0, 5, 5], iscrowd=0, segmentation=polygons[:1]),
        ]
        categories = [dict(id=i, name=str(i), supercategory='thing') for i in (1, 90)]
        path = root / 'annotations' / f'instances_{split}2017.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(dict(info={}, images=images, annotations=annotations, categories=categories)))
    monkeypatch.setattr(coco, 'IMAGES', dict(train=2, val=2))
    monkeypatch.setattr(coco, 'INSTANCES', dict(train=3, val=3))
    monkeypatch.setattr(coco, 'CLASSES', 2)
