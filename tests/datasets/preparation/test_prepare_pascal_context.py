# Copyright (c) MMMixPro contributors.
"""Pascal Context from miniature annotations in the format of the Detail API, against its published way to read them."""

import ast
import json
import os
import signal
import sys
from pathlib import Path

import miniatures
import mmseg
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.datasets import PascalContextDataset59
from mmseg.registry import DATASETS
from PIL import Image
from pycocotools import mask as coco_mask

from mmmixpro.datasets.preparation import pascal_context
from mmmixpro.datasets.preparation.pascal_context import CATEGORIES, MASKS, prepare_pascal_context

CONFIG = Path(__file__).resolve().parents[3] / 'configs/_base_/datasets/pascal_context_bs2_480.py'


@pytest.fixture
def root(tmp_path, monkeypatch):
    miniatures.write_voc2010(tmp_path / 'VOC2010', monkeypatch)
    return tmp_path / 'VOC2010'


def change(root, edit):
    path = root / 'trainval_merged.json'
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def published_labels():
    """The labels in mmseg's own converter, which needs the Detail API."""
    script = Path(mmseg.__file__).parent / '.mim/tools/dataset_converters/pascal_context.py'
    for node in ast.parse(script.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == '_mapping':
            return np.sort(ast.literal_eval(node.value.args[0].args[0]))


def oracle(root):
    """Masks as Detail.getMask draws them, pixel by pixel, mapped as mmseg's converter does."""
    content = json.loads((root / 'trainval_merged.json').read_text())
    masks = {}
    for image in content['images']:
        labels = np.zeros((image['height'], image['width']))
        for segment in content['annos_segmentation']:
            if segment['image_id'] == image['image_id']:
                inside = coco_mask.decode(segment['segmentation'])
                for y, x in zip(*np.nonzero(inside), strict=True):
                    labels[y, x] = segment['category_id']
        masks[Path(image['file_name']).stem] = np.digitize(labels, published_labels(), right=True)
    return masks


def found(root):
    return {path.stem: np.asarray(Image.open(path)) for path in (root / MASKS).glob('*.png')}


def test_classes_are_the_published_ones():
    assert published_labels().tolist() == [0, *CATEGORIES]
    assert len(CATEGORIES) == 59 and sorted(CATEGORIES) == list(CATEGORIES)


def test_masks_and_lists(root):
    lines = prepare_pascal_context(root)
    assert [line.partition('.txt: ')[2] for line in lines] == ['2 images; 2 decoded'] * 2
    masks, expected = found(root), oracle(root)
    assert masks.keys() == expected.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, expected[name])
        assert mask.dtype == np.uint8
    assert len(np.unique(np.concatenate([mask.ravel() for mask in masks.values()]))) > 8  # no test of nothing
    lists = root / 'ImageSets/SegmentationContext'
    assert (lists / 'train.txt').read_text() == '2008_000003\n2010_000001\n'
    assert (lists / 'val.txt').read_text() == '2008_000002\n2010_000009\n'
    assert not list(root.rglob('.*.part*'))


def test_later_annotations_cover_earlier_ones(root):
    """The oracle's masks change with the order, so that the test above sees it."""
    before = oracle(root)
    change(root, lambda content: content['annos_segmentation'].reverse())
    assert any((oracle(root)[name] != mask).any() for name, mask in before.items())


def test_read_by_mmseg_through_the_config(root, monkeypatch):
    prepare_pascal_context(root)
    monkeypatch.setenv('PASCAL_CONTEXT_ROOT', str(root))
    init_default_scope('mmseg')
    cfg = Config.fromfile(CONFIG)
    expected = oracle(root)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    names = []
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = DATASETS.build(dict(loader.dataset, pipeline=pipeline, serialize_data=False))
        for sample in (dataset[i] for i in range(len(dataset))):
            names.append(Path(sample['img_path']).stem)
            np.testing.assert_array_equal(sample['gt_seg_map'], expected[names[-1]])
            assert sample['img'].shape[:2] == sample['gt_seg_map'].shape
    assert sorted(names) == sorted(expected)
    settings = dict(cfg.train_dataloader.dataset, pipeline=pipeline, serialize_data=False)
    settings.pop('type')
    sample = PascalContextDataset59(**settings)[0]
    background_left_out = np.where(expected['2008_000003'] == 0, 255, expected['2008_000003'] - 1)
    np.testing.assert_array_equal(sample['gt_seg_map'], background_left_out)


def test_annotations_elsewhere_and_a_part(root, tmp_path, monkeypatch):
    path = (root / 'trainval_merged.json').rename(tmp_path / 'other.json')
    monkeypatch.setattr(pascal_context, 'IMAGES', dict(train=4998, val=5105))
    with pytest.raises(
        ValueError, match=r'expected 4998 of train, found 2, expected 5105 of val, found 2.*\n.*--subset'
    ):
        prepare_pascal_context(root, path)
    assert not (root / MASKS).exists()
    assert prepare_pascal_context(root, path, official=False, num_decoded=1)


def test_images_of_other_splits_are_left_alone(root):
    def add(content):
        content['images'].append(dict(content['images'][0], image_id=1, file_name='2010_000100.jpg', phase='test'))
        content['annos_segmentation'].append(dict(content['annos_segmentation'][0], id=999, image_id=1, category_id=7))

    change(root, add)
    prepare_pascal_context(root)
    assert '2010_000100' not in found(root)


def test_killed_run_goes_on(root, monkeypatch):
    written = []
    write = pascal_context._write_mask

    def noted(mask, path):
        written.append(path.stem)
        write(mask, path)

    def deadly(mask, path):
        if len(list((root / MASKS).glob('*.png'))) == 2:
            path.with_name(f'.{path.name}.part').write_bytes(b'half')
            os.kill(os.getpid(), signal.SIGKILL)
        write(mask, path)

    if (pid := os.fork()) == 0:
        pascal_context._write_mask = deadly
        prepare_pascal_context(root)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert len(found(root)) == 2 and not (root / 'ImageSets').exists()
    monkeypatch.setattr(pascal_context, '_write_mask', noted)
    prepare_pascal_context(root)
    assert len(written) == 2
    assert not list(root.rglob('.*.part'))
    for name, mask in oracle(root).items():
        np.testing.assert_array_equal(found(root)[name], mask)
    written.clear()
    prepare_pascal_context(root)
    assert not written


def test_mask_that_cannot_be_written_leaves_nothing(root, monkeypatch):
    def full(path, target):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'replace', full)
    with pytest.raises(OSError, match='No space left'):
        prepare_pascal_context(root)
    assert not list((root / MASKS).iterdir())


class TestBroken:
    def test_missing_folder_or_annotations(self, root, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"/elsewhere/JPEGImages'.*VOCtrainval_03-May-2010.tar.*found only"):
            prepare_pascal_context(tmp_path / 'elsewhere')
        (root / 'trainval_merged.json').unlink()
        with pytest.raises(FileNotFoundError, match=r"trainval_merged.json', the annotations"):
            prepare_pascal_context(root)

    def test_missing_images_are_named_before_anything_is_written(self, root):
        for name in ('2010_000001.jpg', '2008_000002.jpg'):
            (root / 'JPEGImages' / name).unlink()
        with pytest.raises(ValueError, match=r'missing images \(2\): 2008_000002.jpg, 2010_000001.jpg\n'):
            prepare_pascal_context(root)
        assert not (root / MASKS).exists()

    @pytest.mark.parametrize('cut', [0, 0.5, 0.999])
    def test_truncated_annotations(self, root, cut):
        path = root / 'trainval_merged.json'
        text = path.read_text()
        path.write_text(text[: int(len(text) * cut)])
        with pytest.raises(ValueError, match=r"trainval_merged.json' is no JSON .*Download it again"):
            prepare_pascal_context(root)

    @pytest.mark.parametrize(
        ('edit', 'message'),
        [
            (lambda c: c.pop('annos_segmentation'), 'to have images, annos_segmentation; found info, images'),
            (
                lambda c: c['images'][1].pop('phase'),
                "whole annotation file of the Detail API: KeyError\\('phase'",
            ),
            (lambda c: c['images'][1].update(height='high'), 'not the whole annotation file'),
            (lambda c: c['annos_segmentation'][0].update(image_id=5), 'not the whole annotation file .*KeyError\\(5'),
            (lambda c: c['images'].append(dict(c['images'][0], image_id=5)), 'listed twice \\(1\\): 2008_000002'),
            (lambda c: c['annos_segmentation'][0].update(category_id=3), 'categories beside the 59 \\(1\\): 3 \\(1\\)'),
            (lambda c: c['annos_segmentation'][0].pop('category_id'), 'categories beside the 59 \\(1\\): None'),
        ],
    )
    def test_annotations_of_something_else(self, root, edit, message):
        change(root, edit)
        with pytest.raises(ValueError, match=f'(?s){message}'):
            prepare_pascal_context(root)
        assert not (root / MASKS).exists()

    @pytest.mark.parametrize(
        ('segmentation', 'message'),
        [
            (dict(size=[3, 4], counts='04'), r'annotation 1 to be of the size \(15, 20\) .*found \(3, 4\)'),
            (dict(size=[15, 20], counts='X' * 90), r'mask of annotation 1 .* is broken'),
            (dict(size=[15, 20]), r'mask of annotation 1 .* is broken'),
            (None, r'mask of annotation 1 .* is broken'),
        ],
    )
    def test_broken_mask(self, root, segmentation, message):
        def edit(content):
            next(s for s in content['annos_segmentation'] if s['id'] == 1)['segmentation'] = segmentation

        change(root, edit)
        with pytest.raises(ValueError, match=message):
            prepare_pascal_context(root)
        assert not (root / 'ImageSets').exists()

    @pytest.mark.parametrize(
        ('damage', 'message'),
        [
            (lambda data: data[:-40], r'\d+ bytes: .*[Tt]runcated'),
            (lambda data: b'', '0 bytes: '),
            (lambda data: miniatures.jpeg(0, (30, 15)), 'expected 12 x 18, found 30 x 15'),
        ],
    )
    def test_broken_image_then_a_whole_one(self, root, damage, message):
        path = root / 'JPEGImages/2008_000003.jpg'
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        with pytest.raises(ValueError, match=rf'broken images \(1\): 2008_000003.jpg \({message}'):
            prepare_pascal_context(root)
        assert not (root / 'ImageSets').exists()
        path.write_bytes(whole)
        assert prepare_pascal_context(root)

    @pytest.mark.parametrize('foreign', ['shifted', 'text'])
    def test_masks_of_another_converter(self, root, foreign):
        prepare_pascal_context(root)
        path = root / MASKS / '2008_000002.png'
        if foreign == 'shifted':
            Image.fromarray(np.asarray(Image.open(path)) + np.uint8(1)).save(path)
        else:
            path.write_text('no image')
        with pytest.raises(ValueError, match=r'(?s)not those of the annotations \(1\): 2008_000002.png.*remove it'):
            prepare_pascal_context(root)

    def test_without_pycocotools(self, root, monkeypatch):
        monkeypatch.setitem(sys.modules, 'pycocotools', None)
        monkeypatch.setattr(pascal_context, 'read_json', None)
        with pytest.raises(ImportError, match='pip install pycocotools'):
            prepare_pascal_context(root)
