# Copyright (c) MMMixPro contributors.
"""COCO 2017 in miniature, whole and broken."""

import json
import sys

import miniatures
import pytest

from mmmixpro.datasets.preparation import coco
from mmmixpro.datasets.preparation.coco import check_coco


@pytest.fixture
def root(tmp_path, monkeypatch):
    miniatures.write_coco(tmp_path / 'coco', monkeypatch)
    return tmp_path / 'coco'


def change(root, edit, split='val'):
    path = root / 'annotations' / f'instances_{split}2017.json'
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_whole(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    lines = check_coco(root)
    assert [line.partition('2017: ')[2] for line in lines] == [
        '2 images, 3 instances of 2 classes; 2 images decoded'
    ] * 2
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before
    assert check_coco(root, ('val',), num_decoded=1)[0].endswith('1 images decoded')


def test_published_counts_and_a_part(root, monkeypatch):
    monkeypatch.undo()
    assert coco.IMAGES['train'] == 118287 and coco.INSTANCES['train'] == 860001
    with pytest.raises(ValueError) as caught:
        check_coco(root, ('val',))
    for part in (
        'images: expected 5000, found 2',
        'instances: expected 36781, found 3',
        'classes: expected 80, found 2',
    ):
        assert part in str(caught.value)
    assert check_coco(root, official=False)


@pytest.mark.parametrize('missing', ['train2017', 'val2017', 'annotations/instances_val2017.json'])
def test_missing_part(root, missing):
    (root / missing).rename(root / 'moved')
    with pytest.raises(FileNotFoundError, match=rf"{missing}', .*of .*archive .*found only"):
        check_coco(root)


def test_missing_images_are_named(root):
    (root / 'val2017/000000000021.jpg').unlink()
    with pytest.raises(
        ValueError, match=r'val2017 of .*\n- missing images \(1\): 000000000021.jpg\nUnpack val2017.zip'
    ):
        check_coco(root)


@pytest.mark.parametrize('cut', [0, 0.5, 0.99])
def test_truncated_annotations(root, cut):
    path = root / 'annotations/instances_train2017.json'
    path.write_text(path.read_text()[: int(path.stat().st_size * cut)])
    with pytest.raises(ValueError, match=r"instances_train2017.json' is no JSON"):
        check_coco(root)


def test_other_file(root):
    path = root / 'annotations/instances_train2017.json'
    path.write_text('{"info": {}, "images": []}')
    with pytest.raises(ValueError, match='to have images, annotations, categories; found info, images'):
        check_coco(root)
    path.write_text('{"images": [{}], "annotations": [], "categories": []}')
    with pytest.raises(ValueError, match=r"does not describe images as COCO does: KeyError\('id'\)"):
        check_coco(root)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda data: data[:-40], r'\d+ bytes: .*[Tt]runcated'),
        (lambda data: b'', '0 bytes: '),
        (lambda data: miniatures.jpeg(0, (30, 15)), 'expected 12 x 18, found 30 x 15'),
    ],
)
def test_broken_image(root, damage, message):
    path = root / 'val2017/000000000021.jpg'
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf'broken images \(1\): 000000000021.jpg \({message}'):
        check_coco(root)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(image_id=7), 'no image 7'),
        (dict(category_id=7), 'no category 7'),
        (dict(bbox=[0, 0, 1]), r'box \[0, 0, 1\]'),
        (dict(bbox=[0, 0, -1, 2]), 'box'),
        (dict(bbox=None), 'TypeError'),
        (dict(segmentation=[]), 'no polygons'),
        (dict(segmentation=[[1, 2, 3]]), 'no polygons'),
        (dict(segmentation=[[1, 2, 3, 'x', 5, 6]]), 'TypeError|ValueError'),
        (dict(segmentation=dict(counts=[300])), 'no run lengths'),
        (dict(iscrowd=None), 'iscrowd None'),
        (dict(iscrowd=1, segmentation=dict(counts=[99 * 99], size=[99, 99])), r'expected a mask of 15 x 20'),
    ],
)
def test_broken_annotation(root, fields, message):
    change(root, lambda content: content['annotations'][0].update(fields))
    with pytest.raises(ValueError, match=rf'broken annotations \(1\): 1 \(.*({message})'):
        check_coco(root)


def test_compressed_run_lengths(root):
    """What tools for parts of COCO write."""
    runs = miniatures.runs([[0, 1] * 10] * 15)
    change(root, lambda content: content['annotations'][0].update(segmentation=runs))
    assert check_coco(root)


def test_annotations_that_are_none(root):
    change(root, lambda content: content['annotations'].__setitem__(0, 'text'))
    with pytest.raises(ValueError, match=r'broken annotations \(1\): text \(TypeError'):
        check_coco(root)


def test_without_pycocotools(root, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    monkeypatch.setattr(coco, 'read_json', None)  # which takes a minute
    with pytest.raises(ImportError, match='pip install pycocotools'):
        check_coco(root)
