# Copyright (c) MMMixPro contributors.
import hashlib
import importlib.util
import json
import os

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from pycocotools.coco import COCO
from pycocotools.mask import decode, frPyObjects, toBbox

from mmmixpro.datasets import shapes
from mmmixpro.datasets.scenes import CLASSES, IGNORE, MIN_VISIBLE_PIXELS, draw_scene
from mmmixpro.datasets.shapes import ShapesConfig, prepare_shapes

TINY = ShapesConfig(train_images=20, val_images=10, image_size=32, train_scenes=6, val_scenes=4, scene_size=64)
COUNTS = dict(train=(20, 6), val=(10, 4))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return prepare_shapes(tmp_path_factory.mktemp('data') / 'shapes', TINY)


def read(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


def digests(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def pixels(*folders):
    return {hashlib.sha256(read(path).tobytes()).hexdigest() for folder in folders for path in folder.rglob('*.png')}


def test_equal_parameters_give_equal_bytes(root, tmp_path):
    np.random.default_rng(0).random(7)
    np.random.seed(5)
    again = prepare_shapes(tmp_path / 'again', TINY)
    assert digests(again) == digests(root)
    other = prepare_shapes(tmp_path / 'other', ShapesConfig(**{**vars(TINY), 'seed': 1}))
    assert not pixels(other) & pixels(root)


def test_an_image_depends_on_nothing_but_its_place():
    """More images, or images drawn in another order, leave the first ones as they are."""
    few, many = TINY, ShapesConfig(**{**vars(TINY), 'train_images': 25, 'train_scenes': 9})
    for draw in (ShapesConfig.scenes, ShapesConfig.images):
        both = list(zip(draw(few, 'train'), draw(many, 'train'), strict=False))
        assert len(both) >= 6
        assert all(np.array_equal(a.image, b.image) and np.array_equal(a.semantic, b.semantic) for a, b in both)


def test_no_validation_image_is_trained_on(root):
    splits = [[root / 'imagenet' / s, root / 'seg/img_dir' / s, root / 'coco/images' / s] for s in ('train', 'val')]
    train, val = (pixels(*folders) for folders in splits)
    assert len(train) == 20 + 6, 'the same scenes serve segmentation and detection, and none occurs twice'
    assert len(val) == 10 + 4
    assert not train & val


@pytest.mark.parametrize('split', ['train', 'val'])
def test_label_masks_and_instances_agree(split):
    for scene in [*TINY.images(split), *TINY.scenes(split)]:
        assert scene.image.dtype == scene.semantic.dtype == np.uint8
        shown = np.zeros(scene.semantic.shape, int)
        for kind, mask in scene.instances:
            assert (scene.semantic[mask] == kind + 1).all()
            assert mask.sum() >= MIN_VISIBLE_PIXELS
            shown += mask
        assert shown.max() == 1, 'a pixel shows one object'
        assert np.array_equal(shown == 0, np.isin(scene.semantic, (0, IGNORE)))
        areas = [mask.sum() for _, mask in scene.instances]
        assert scene.label == scene.instances[int(np.argmax(areas))][0]
    assert [scene.label for scene in TINY.images(split)] == [i % 10 for i in range(COUNTS[split][0])]


def test_objects_hide_each_other():
    """What is nearly hidden is ignored: no instance and no background; clutter in front cuts objects."""
    rng = np.random.default_rng(0)
    crowds = [draw_scene(rng, 64, list(range(10)), [24.0] * 10) for _ in range(8)]
    assert any((scene.semantic == IGNORE).any() for scene in crowds)
    for scene in crowds:
        full = np.pi / 4 * 24**2
        areas = [mask.sum() for _, mask in scene.instances]
        assert max(areas) <= 1.1 * full, 'shapes of one diameter have one area'
        assert min(areas) < 0.8 * full


def test_the_last_object_is_in_front():
    """A small disc on a square that fills the frame: its mask is whole, the square's has a hole."""
    square, disc = CLASSES.index('square'), CLASSES.index('disc')
    for i in range(5):
        scene = draw_scene(np.random.default_rng(i), 64, [square, disc], [60.0, 20.0])
        areas = {kind: mask.sum() for kind, mask in scene.instances}
        assert areas[disc] > 0.7 * np.pi / 4 * 20**2, 'but for strokes'
        assert scene.label == square


@pytest.mark.parametrize('name', CLASSES)
def test_equal_diameters_give_equal_areas(name):
    alone = [draw_scene(np.random.default_rng(i), 64, [CLASSES.index(name)], [28.0]) for i in range(6)]
    largest = max(scene.instances[0][1].sum() for scene in alone)
    assert largest == pytest.approx(np.pi / 4 * 28**2, rel=0.08)


def test_colours_do_not_tell_the_class():
    """A linear classifier on colour histograms stays near chance, 10 %."""
    config = ShapesConfig(train_images=600, val_images=300)
    features, labels = {}, {}
    for split in ('train', 'val'):
        scenes = list(config.images(split))
        colours = [(scene.image // 64 @ np.array([16, 4, 1], np.uint8)).ravel() for scene in scenes]
        features[split] = np.sqrt([np.bincount(c, minlength=64) for c in colours])
        labels[split] = np.array([scene.label for scene in scenes])
    weights, *_ = np.linalg.lstsq(features['train'], np.eye(10)[labels['train']], rcond=None)
    assert ((features['val'] @ weights).argmax(1) == labels['val']).mean() < 0.25


@pytest.mark.parametrize('split', ['train', 'val'])
def test_coco_file_is_whole(root, split, capsys):
    coco = COCO(str(root / f'coco/annotations/instances_{split}.json'))
    assert set(coco.dataset) == {'info', 'licenses', 'images', 'annotations', 'categories'}
    assert [(c['id'], c['name']) for c in coco.dataset['categories']] == list(enumerate(CLASSES, start=1))
    assert len(coco.imgs) == COUNTS[split][1]
    assert len(coco.anns) == len(coco.dataset['annotations']) > len(coco.imgs), 'ids are unique'
    labels = dict(line.split() for line in (root / f'seg/meta/{split}.txt').read_text().splitlines())
    for image in coco.imgs.values():
        semantic = read(root / 'seg/ann_dir' / split / image['file_name'])
        assert semantic.shape == (image['height'], image['width'])
        drawn = np.zeros_like(semantic)
        annotations = coco.imgToAnns[image['id']]
        for annotation in annotations:
            mask = coco.annToMask(annotation)
            assert annotation['area'] == mask.sum()
            rle = frPyObjects(annotation['segmentation'], *mask.shape)
            assert np.array_equal(decode(rle), mask)
            assert annotation['bbox'] == toBbox(rle).tolist()
            assert annotation['iscrowd'] == 0
            drawn[mask == 1] = annotation['category_id']
        assert np.array_equal(drawn, np.where(semantic == IGNORE, 0, semantic))
        largest = max(annotations, key=lambda annotation: annotation['area'])
        assert int(labels[image['file_name']]) == largest['category_id'] - 1


@pytest.mark.parametrize('split', ['train', 'val'])
def test_mmpretrain_reads_it(root, split):
    from mmpretrain.datasets import CustomDataset, ImageNet

    images, scenes = COUNTS[split]
    folders = CustomDataset(data_root=str(root / 'imagenet'), data_prefix=split)
    assert (len(folders), folders.CLASSES) == (images, CLASSES)
    load = [dict(type='LoadImageFromFile')]
    named = ImageNet(str(root / 'imagenet'), split, metainfo=dict(classes=CLASSES), pipeline=load)
    assert sorted(named.get_gt_labels()) == sorted(i % 10 for i in range(images))
    assert named[0]['img'].shape == (32, 32, 3)
    listed = ImageNet(str(root / 'seg'), split, data_prefix=f'img_dir/{split}', metainfo=dict(classes=CLASSES))
    assert list(listed.get_gt_labels()) == [scene.label for scene in TINY.scenes(split)]
    assert len(listed) == scenes


@pytest.mark.parametrize('split', ['train', 'val'])
def test_mmseg_reads_it(root, split):
    from mmseg.datasets import BaseSegDataset

    init_default_scope('mmseg')
    dataset = BaseSegDataset(
        data_root=str(root / 'seg'),
        data_prefix=dict(img_path=f'img_dir/{split}', seg_map_path=f'ann_dir/{split}'),
        img_suffix='.png',
        metainfo=dict(classes=('background', *CLASSES)),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
    )
    assert len(dataset) == COUNTS[split][1]
    for sample, scene in zip(dataset, TINY.scenes(split), strict=True):
        assert np.array_equal(sample['img'], scene.image)
        assert np.array_equal(sample['gt_seg_map'], scene.semantic)


@pytest.mark.skipif(importlib.util.find_spec('mmcv._ext') is None, reason="mmdet needs mmcv's compiled operators")
@pytest.mark.parametrize('split', ['train', 'val'])
def test_mmdet_reads_it(root, split):
    from mmdet.datasets import CocoDataset

    init_default_scope('mmdet')
    dataset = CocoDataset(
        data_root=str(root / 'coco'),
        ann_file=f'annotations/instances_{split}.json',
        data_prefix=dict(img=f'images/{split}'),
        metainfo=dict(classes=CLASSES),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        ],
    )
    assert len(dataset) == COUNTS[split][1]
    for sample, scene in zip(dataset, TINY.scenes(split), strict=True):
        assert np.array_equal(sample['img'], scene.image)
        assert sample['gt_bboxes_labels'].tolist() == [kind for kind, _ in scene.instances]
        assert np.array_equal(sample['gt_masks'].masks, np.stack([mask for _, mask in scene.instances]))


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv('MMMIXPRO_CACHE', str(tmp_path / 'cache'))
    root = prepare_shapes(config=TINY)
    assert root.parent == tmp_path / 'cache/shapes'
    assert shapes.default_root() != root, 'other parameters, another folder'
    monkeypatch.setattr(shapes, '_write_split', lambda *_: pytest.fail('written twice'))
    assert prepare_shapes(config=TINY) == root
    monkeypatch.setattr(shapes, 'VERSION', -1)
    assert shapes.default_root(TINY) != root


@pytest.mark.parametrize('failure', [RuntimeError, KeyboardInterrupt])
def test_a_broken_run_leaves_nothing(monkeypatch, tmp_path, failure):
    write, calls = shapes._write_png, []

    def fail_midway(path, image):
        calls.append(path)
        if len(calls) == 15:
            raise failure
        write(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(shapes, '_write_png', fail_midway)
        with pytest.raises(failure):
            prepare_shapes(tmp_path / 'shapes', TINY)
    assert len(calls) == 15
    assert not list(tmp_path.iterdir())
    killed = tmp_path / '.shapes.killed'
    at_work = tmp_path / '.shapes.at_work'
    for folder in (killed, at_work):
        folder.mkdir()
    os.utime(killed, (0, 0))
    prepare_shapes(tmp_path / 'shapes', TINY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.shapes.at_work', 'shapes']


def test_two_at_once(monkeypatch, tmp_path, root):
    """The second to finish takes the folder of the first."""
    write = shapes._write_split

    def overtaken(*args):
        monkeypatch.setattr(shapes, '_write_split', write)
        assert prepare_shapes(tmp_path / 'shapes', TINY) == tmp_path / 'shapes'
        return write(*args)

    monkeypatch.setattr(shapes, '_write_split', overtaken)
    assert prepare_shapes(tmp_path / 'shapes', TINY) == tmp_path / 'shapes'
    assert digests(tmp_path / 'shapes') == digests(root)
    assert [path.name for path in tmp_path.iterdir()] == ['shapes']


def test_unwritable_folder(monkeypatch, tmp_path):
    (tmp_path / 'file').write_text('in the way')
    monkeypatch.setenv('MMMIXPRO_CACHE', str(tmp_path / 'file'))
    with pytest.raises(OSError, match=r'cannot write .*file.* Set MMMIXPRO_CACHE to a writable folder'):
        prepare_shapes(config=TINY)


def test_a_folder_in_use_is_left_alone(root, tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    before = digests(root)
    with pytest.raises(ValueError, match=r'must be new, empty or hold .*it holds other files'):
        prepare_shapes(tmp_path, TINY)
    with pytest.raises(ValueError, match=r"it holds .*'seed': 0.*Name another folder"):
        prepare_shapes(root, ShapesConfig(**{**vars(TINY), 'seed': 1}))
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']
    assert digests(root) == before


@pytest.mark.parametrize('bad', [dict(seed=-1), dict(train_images=9), dict(image_size=16.0), dict(val_scenes=0)])
def test_bad_sizes(bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=f'{name} must be an integer >= .*, found {value}'):
        ShapesConfig(**bad)


def test_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shapes, 'ShapesConfig', lambda: TINY)
    monkeypatch.setattr('sys.argv', ['shapes', '--out', str(tmp_path / 'new/shapes')])
    shapes.main()
    out = capsys.readouterr().out.splitlines()
    counts = json.loads((tmp_path / 'new/shapes/shapes.json').read_text())['counts']
    assert out[0] == str(tmp_path / 'new/shapes')
    assert out[1] == f'train: 20 images, 6 scenes, {counts["train"]["instances"]} instances'
    assert len(out) == 3
