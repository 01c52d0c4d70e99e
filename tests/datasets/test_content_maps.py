# Copyright (c) MMMixPro contributors.
"""Maps on disk, and how they follow an image through crops and flips."""

import json
import pickle

import numpy as np
import pytest
from mmpretrain.datasets import transforms as stock
from mmpretrain.registry import TRANSFORMS
from oracles import tokenmix as oracle

from mmmixpro.datasets import FastRandomFlip, FastRandomResizedCrop, LoadContentMap, TrackedRandomResizedCrop
from mmmixpro.datasets.content_maps import ContentMaps, ContentMapWriter, map_name

PATHS = ['/data/train/b/1.png', '/data/train/a/10.png', '/data/train/a/2.png', '/data/train/b/0.png']


@pytest.fixture
def folder(tmp_path):
    """The maps of four images; that of ``b/1.png`` is a ramp."""
    writer = ContentMapWriter(tmp_path / 'maps', PATHS, dict(teacher='none'))
    maps = np.random.rand(4, 5, 7).astype(np.float32)
    maps[writer.order.index(0)] = np.arange(35).reshape(5, 7) / 34
    maps[writer.order.index(3)] = 0
    writer.write(maps)
    writer.flush()
    return tmp_path / 'maps'


def test_maps_are_found_by_folder_and_file(folder):
    maps = ContentMaps(folder)
    assert maps['elsewhere/b/1.png'].dtype == np.float16
    np.testing.assert_allclose(maps['elsewhere/b/1.png'], np.arange(35).reshape(5, 7) / 34, atol=1e-3)
    assert not maps['b/0.png'].any()
    assert maps['a/10.png'].max() == maps['a/2.png'].max() == 1
    assert not np.array_equal(maps['a/10.png'], maps['a/2.png'])
    assert isinstance(maps.maps, np.memmap) and isinstance(maps.names, np.memmap)


def test_pickled_without_its_maps(folder):
    maps = ContentMaps(folder)
    assert len(pickle.dumps(maps)) < 500
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(maps))['b/1.png'], maps['b/1.png'])


@pytest.mark.parametrize('name', ['a/3.png', 'z/1.png', 'b/1.pngx', 'a/2.png.much.longer.than.any.other.name', '0/0'])
def test_image_without_map(folder, name):
    with pytest.raises(ValueError, match=rf"has the maps of 4 images, none of '/x/{name}'.*precompute_maps.py"):
        ContentMaps(folder)[f'/x/{name}']


def test_no_maps_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'found none.*precompute_maps.py.*TOKENMIX_MAPS'):
        LoadContentMap(str(tmp_path))


def test_unfinished_maps(folder):
    meta = json.loads((folder / 'meta.json').read_text())
    (folder / 'meta.json').write_text(json.dumps(dict(meta, done=3)))
    with pytest.raises(ValueError, match='has the maps of 3 of 4 images. Run the same command again'):
        LoadContentMap(str(folder))


def test_writing_goes_on(tmp_path):
    maps, source = np.random.rand(4, 3, 3), dict(teacher='x')
    writer = ContentMapWriter(tmp_path, PATHS, source)
    writer.write(maps[:2])
    writer.flush()
    writer.write(maps[2:3])  # lost, for nobody was told
    writer = ContentMapWriter(tmp_path, PATHS, source)
    assert writer.done == 2
    writer.write(maps[2:])
    writer.flush()
    found = ContentMaps(tmp_path).maps
    np.testing.assert_allclose(found, maps / maps.max((1, 2), keepdims=True), atol=1e-3)


@pytest.mark.parametrize(('paths', 'source'), [(PATHS[:3], dict(teacher='none')), (PATHS, dict(teacher='other'))])
def test_writing_into_other_maps(folder, paths, source):
    with pytest.raises(ValueError, match='holds the maps of 4 images made by .*Name another folder'):
        ContentMapWriter(folder, paths, source)


def test_two_images_of_one_name(tmp_path):
    with pytest.raises(ValueError, match=r"'x/a/1.png' and 'y/a/1.png' have the same"):
        ContentMapWriter(tmp_path, ['x/a/1.png', 'z/b/1.png', 'y/a/1.png'], {})
    assert map_name('1.png') == '1.png'


# Crops and flips.


def run(*steps, image=None, path=PATHS[0]):
    results = dict(img=np.zeros((60, 80, 3), np.uint8) if image is None else image, img_path=path)
    for step in steps:
        results = step(results)
    return results


@pytest.mark.parametrize('crop', [TrackedRandomResizedCrop, FastRandomResizedCrop])
@pytest.mark.parametrize('direction', [None, 'horizontal', 'vertical', 'diagonal'])
@pytest.mark.parametrize('flip_first', [False, True])
def test_map_of_the_crop_is_the_oracles(crop, direction, flip_first, folder, monkeypatch):
    crop, load = crop(48, backend='pillow'), LoadContentMap(str(folder), size=6)
    boxes, draw = [], crop.rand_crop_params
    monkeypatch.setattr(crop, 'rand_crop_params', lambda img: boxes.append(draw(img)) or boxes[-1])
    flip = FastRandomFlip(prob=1.0 if direction else 0.0, direction=direction or 'vertical')
    whole = load.maps[PATHS[0]].astype(np.float64)
    signs = {None: (1, 1), 'horizontal': (1, -1), 'vertical': (-1, 1), 'diagonal': (-1, -1)}[direction]
    way = tuple(slice(None, None, sign) for sign in signs)
    for _ in range(10):
        found = run(*((flip, crop) if flip_first else (crop, flip)), load)['content']
        top, left, height, width = boxes[-1]
        box = top / 60, (top + height) / 60, left / 80, (left + width) / 80
        expected = oracle.crop_map(whole[way], box, 6) if flip_first else oracle.crop_map(whole, box, 6)[way]
        assert found.dtype == np.float16 and found.flags.c_contiguous
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize('crop', [TrackedRandomResizedCrop, FastRandomResizedCrop])
def test_map_follows_its_image(crop, tmp_path):
    """An image that shows its own map: what is cropped and flipped of both must look alike."""
    ramp = np.add.outer(np.linspace(0, 150, 60), np.linspace(0, 100, 80))
    whole = ramp.reshape(30, 2, 40, 2).mean((1, 3))
    writer = ContentMapWriter(tmp_path, PATHS[:1], {})
    writer.write(whole[None])
    writer.flush()
    image = np.repeat(ramp.astype(np.uint8)[..., None], 3, 2)
    flip = TRANSFORMS.build(dict(type='mmcv.RandomFlip', prob=0.5, direction=['horizontal', 'vertical']))
    load = LoadContentMap(str(tmp_path), size=12)
    for _ in range(20):
        results = run(crop(48, backend='pillow'), flip, load, image=image)
        shown = results['img'][..., 0].reshape(12, 4, 12, 4).mean((1, 3))
        np.testing.assert_allclose(whole.max() * results['content'].astype(float), shown, atol=4)


def test_whole_image_keeps_its_map(folder):
    load = LoadContentMap(str(folder), size=35)
    results = load(dict(img_path=PATHS[0], crop_box=((0, 1), (0, 1))))
    blocks = results['content'].reshape(5, 7, 7, 5)
    assert (blocks == blocks[:, :1, :, :1]).all()
    np.testing.assert_array_equal(blocks[:, 0, :, 0], load.maps[PATHS[0]])


def test_tracked_crop_is_the_stock_one():
    image = np.random.randint(0, 256, (70, 90, 3), np.uint8)
    theirs, ours = stock.RandomResizedCrop(32), TrackedRandomResizedCrop(32)
    for seed in range(20):
        np.random.seed(seed)
        expected = theirs(dict(img=image)), np.random.rand()
        np.random.seed(seed)
        found = ours(dict(img=image)), np.random.rand()
        assert found[1] == expected[1]
        np.testing.assert_array_equal(found[0]['img'], expected[0]['img'])


def test_unknown_crop(folder):
    with pytest.raises(ValueError, match=r'found no crop_box.*TrackedRandomResizedCrop or FastRandomResizedCrop'):
        run(stock.RandomResizedCrop(48), LoadContentMap(str(folder)))


def test_repr(folder):
    assert repr(LoadContentMap(str(folder), size=7)) == f"LoadContentMap(path='{folder}', size=7)"
