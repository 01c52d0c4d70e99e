# Copyright (c) MMMixPro contributors.
"""The transforms, in pipelines as mmpretrain runs them."""

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import TRANSFORMS
from oracles import occlusion as oracle
from PIL import Image

from mmmixpro.datasets.content_maps import ContentMapWriter

RATIOS = (0.0, 0.1, 0.5, 0.55, 1.0)


def build(*steps):
    init_default_scope('mmpretrain')
    return Compose([TRANSFORMS.build(step) for step in steps])


def picture(size, seed=0, channels=(3,)):
    """No pixel of it is 0."""
    return np.random.default_rng(seed).integers(1, 256, (*size, *channels), dtype=np.uint8)


@pytest.mark.parametrize(('grid', 'size'), [(14, (224, 224)), (14, (64, 60)), ((3, 5), (17, 23)), (7, (30, 40))])
@pytest.mark.parametrize('channels', [(3,), (1,), ()])
def test_as_many_patches_as_asked_are_zero(grid, size, channels):
    sides = (grid, grid) if isinstance(grid, int) else grid
    image, patches = picture(size, channels=channels), sides[0] * sides[1]
    content = np.random.default_rng(1).integers(0, 8, (4, 4)) / 8  # with ties
    for ratio in RATIOS:
        results = [
            build(dict(type=name, ratio=ratio, grid=grid))(dict(img=image.copy(), sample_idx=3, content=content))['img']
            for name in ('RandomOcclusion', 'SalientOcclusion')
        ]
        rest = dict(type='NonSalientOcclusion', ratio=1 - ratio, grid=grid)
        results.append(build(rest)(dict(img=image.copy(), content=content))['img'])
        hidden = [oracle.hidden_patches(result, sides) for result in results]
        count = oracle.count(ratio, patches)
        assert [len(found) for found in hidden] == [count, count, patches - count]
        assert sorted(hidden[1] + hidden[2]) == list(range(patches))
        assert hidden[1] == sorted(oracle.salient_order(content, sides, size)[:count])
        for result, found in zip(results, hidden, strict=True):
            np.testing.assert_array_equal(result, oracle.occlude(image, found, sides))
            assert result.dtype == np.uint8
            assert result.flags.c_contiguous


@pytest.fixture
def folder(tmp_path):
    for name in 'ab':
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(picture((20, 24), seed=ord(name) + i)).save(tmp_path / name / f'{i}.png')
    return tmp_path


def shown(folder, seed=0, **loader):
    """What is left of each image, by its path."""
    init_default_scope('mmpretrain')
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='RandomOcclusion', ratio=0.4, grid=5, seed=seed),
        dict(type='PackInputs'),
    ]
    dataset = CustomDataset(data_root=str(folder), pipeline=steps)
    sampler = dict(type='DefaultSampler', shuffle=loader.pop('shuffle', False))
    collate = dict(type='default_collate')
    batches = Runner.build_dataloader(dict(dataset=dataset, sampler=sampler, collate_fn=collate, **loader), seed=1)
    return {
        sample.img_path: image.numpy()
        for batch in batches
        for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True)
    }


def test_the_same_whatever_order_and_worker(folder):
    first = shown(folder, batch_size=3, num_workers=0)
    assert len(first) == 8
    for options in (dict(batch_size=1, num_workers=2, shuffle=True), dict(batch_size=8, num_workers=0, shuffle=True)):
        again = shown(folder, **options)
        for path, image in first.items():
            np.testing.assert_array_equal(again[path], image)
    hidden = {tuple(oracle.hidden_patches(image.transpose(1, 2, 0), (5, 5))) for image in first.values()}
    assert len(hidden) == 8
    assert all(len(patches) == 10 for patches in hidden)
    other = shown(folder, seed=1, batch_size=3, num_workers=0)
    assert not any(np.array_equal(other[path], image) for path, image in first.items())


@pytest.mark.parametrize('size', [(40, 60), (61, 40), (20, 16)])
def test_precomputed_maps_follow_the_crop(folder, size):
    """Stored maps are of whole images; what the map of the crop marks is where the crop shows it."""
    path = str(folder / 'a' / '0.png')
    Image.fromarray(picture(size)).save(path)
    # The brightest quarter: the middle half of the image.
    whole = np.zeros((1, 8, 8), np.float32)
    whole[:, 2:6, 2:6] = 1
    writer = ContentMapWriter(folder / 'maps', [path], dict(source='test'))
    writer.write(whole)
    writer.flush()
    crop = dict(type='TrackedCenterCrop', crop_size=(20, 20))
    maps = dict(type='LoadContentMap', path=str(folder / 'maps'), size=10)
    load, hide = dict(type='LoadImageFromFile'), dict(type='SalientOcclusion', ratio=0.2, grid=10)
    results = build(load, crop, maps)(dict(img_path=path))
    plain = build(load, dict(type='CenterCrop', crop_size=(20, 20)))(dict(img_path=path))
    np.testing.assert_array_equal(results['img'], plain['img'])
    assert results['img_shape'] == plain['img_shape']
    # The share of each cell of the crop that lies in the middle half, along both sides.
    shares = []
    for side, cropped in zip(size, plain['img'].shape, strict=False):
        start = round((side - cropped) / 2)
        edges = (start + np.linspace(0, cropped, 11)) / side
        shares.append((edges[1:].clip(max=0.75) - edges[:-1].clip(min=0.25)).clip(0) / np.diff(edges))
    np.testing.assert_allclose(results['content'], np.outer(*shares), atol=2e-3)
    hidden = oracle.hidden_patches(build(load, crop, maps, hide)(dict(img_path=path))['img'], (10, 10))
    order = oracle.salient_order(results['content'], (10, 10), plain['img'].shape[:2])
    assert hidden == sorted(order[:20])


def test_a_flipped_image():
    image = picture((20, 20))[:, ::-1]  # a view that steps backwards
    result = build(dict(type='RandomOcclusion', ratio=0.5, grid=4))(dict(img=image, sample_idx=0))['img']
    hidden = oracle.hidden_patches(result, (4, 4))
    assert len(hidden) == 8
    np.testing.assert_array_equal(result, oracle.occlude(image, hidden, (4, 4)))


def test_mistakes():
    random, salient = dict(type='RandomOcclusion', ratio=0.5), dict(type='SalientOcclusion', ratio=0.5)
    image = picture((20, 20))
    with pytest.raises(ValueError, match=r'in \[0, 1\], got 50'):
        build(dict(random, ratio=50))
    with pytest.raises(ValueError, match='Expected a grid'):
        build(dict(random, grid=0))
    with pytest.raises(ValueError, match='sample_idx'):
        build(random)(dict(img=image))
    with pytest.raises(ValueError, match='LoadContentMap'):
        build(salient)(dict(img=image))
    with pytest.raises(TypeError, match='uint8 image, got float32'):
        build(random)(dict(img=image.astype(np.float32), sample_idx=0))
    with pytest.raises(ValueError, match='14 x 14 patches does not fit into 13 x 20 px'):
        build(random)(dict(img=image[:13], sample_idx=0))
    with pytest.raises(ValueError, match='map of padded pixels'):
        build(dict(type='TrackedCenterCrop', crop_size=30, auto_pad=True))
