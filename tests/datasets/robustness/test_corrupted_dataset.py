# Copyright (c) MMMixPro contributors.
"""Corruptions on the fly: where in the pipeline, of what draws, and how often an image is decoded."""

import sys
import types

import cv2
import imagecorruptions
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import default_collate
from mmpretrain.registry import TRANSFORMS
from robustness_sets import PIPELINE
from torch.utils.data import ConcatDataset, DataLoader

from mmmixpro.datasets.robustness import CorruptedDataset, corrupted
from mmmixpro.datasets.robustness.corrupted import corrupt
from mmmixpro.datasets.robustness.corruptions import BENCHMARK, EXTRA

# One of every kind of generator, among them the one that imagecorruptions would seed by itself; glass_blur, which has
# another, takes seconds to compile.
DRAWN = ['gaussian_noise', 'shot_noise', 'impulse_noise', 'motion_blur', 'snow', 'frost', 'elastic_transform']


class Counted(BaseTransform):
    """Notes what goes through it."""

    seen: list = []

    def transform(self, results):
        self.seen.append(results['sample_idx'])
        return results


@pytest.fixture
def counted():
    TRANSFORMS.register_module(name='Counted', module=Counted, force=True)
    Counted.seen.clear()
    yield Counted.seen
    TRANSFORMS.module_dict.pop('Counted')


@pytest.fixture
def photos(tmp_path):
    """Coloured noise in three folders, of which no two pixels are alike."""
    rng = np.random.default_rng(0)
    for i in range(3):
        (tmp_path / f'photos/{i}').mkdir(parents=True)
        small = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'photos/{i}/{i}.png'), cv2.resize(small, (96, 72), interpolation=cv2.INTER_CUBIC))
    return str(tmp_path / 'photos')


@pytest.fixture
def clean(build, photos):
    def clean(pipeline=PIPELINE):
        return build('CustomDataset', data_root=photos, pipeline=pipeline)

    return clean


@pytest.fixture
def make(clean):
    def make(pipeline=PIPELINE, **kwargs):
        return CorruptedDataset(clean(pipeline), **kwargs)

    return make


def test_where_it_is_corrupted(make, clean):
    """What the stock pipeline packs, in RGB, corrupted and back: after resize and crop, before it is packed."""
    dataset, stock = make(corruptions=['jpeg_compression', 'contrast'], severities=[2, 5]), clean()
    assert len(dataset) == 12
    for i, sample in enumerate(dataset):
        image, which = divmod(i, 4)
        name, severity = ['jpeg_compression', 'contrast'][which // 2], [2, 5][which % 2]
        rgb = stock[image]['inputs'].flip(0).permute(1, 2, 0).contiguous().numpy()
        assert rgb.shape == (40, 40, 3)
        expected = imagecorruptions.corrupt(rgb, severity, name)
        assert np.array_equal(sample['inputs'].flip(0).permute(1, 2, 0).numpy(), expected)
        assert not np.array_equal(expected, rgb)
        noted = sample['data_samples']
        assert (noted.corruption, noted.severity) == (name, severity)
        assert noted.gt_label.item() == image == dataset.get_data_info(i)['gt_label']
        assert dataset.get_data_info(i)['corruption'] == name


def test_images_in_memory(build, sets):
    """They are in RGB, as CIFAR's, and their channels stay where they are."""
    stock = build('CIFAR100C', data_root=str(sets / 'cifar100-c'), corruptions=['fog'], pipeline=[PIPELINE[-1]])
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8), (32, 32), interpolation=cv2.INTER_CUBIC)
    stock.data_list = [dict(img=pixels, gt_label=1, corruption='', severity=0)]
    (sample,) = CorruptedDataset(stock, ['jpeg_compression'], [5])
    expected = imagecorruptions.corrupt(pixels, 5, 'jpeg_compression')
    assert np.array_equal(sample['inputs'].permute(1, 2, 0).numpy(), expected)
    turned = imagecorruptions.corrupt(np.ascontiguousarray(pixels[..., ::-1]), 5, 'jpeg_compression')[..., ::-1]
    assert not np.array_equal(turned, expected)


def test_config_of_a_dataset(build, photos):
    inner = dict(type='CustomDataset', data_root=photos, pipeline=PIPELINE, serialize_data=False)
    dataset = CorruptedDataset(inner)
    assert len(dataset) == 3 * 75 and dataset.metainfo['classes'] == ('0', '1', '2')
    assert dataset.kinds == [(name, severity) for name in BENCHMARK for severity in range(1, 6)]


def loaded(dataset, num_workers=0, order=None):
    """All inputs by image, corruption and severity."""
    loader = DataLoader(dataset, 5, sampler=order, num_workers=num_workers, collate_fn=default_collate)
    inputs = {}
    for batch in loader:
        for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
            inputs[sample.sample_idx, sample.corruption, sample.severity] = image
    return inputs


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_same_whatever_the_worker_or_the_order(make):
    dataset = make(corruptions=DRAWN, severities=[1, 4])
    expected = loaded(dataset)
    assert len(expected) == 42
    np.random.seed(99)
    torch.manual_seed(99)
    order = torch.randperm(len(dataset)).tolist()
    assert equal(loaded(dataset, order=order), expected)
    assert equal(loaded(dataset, num_workers=2), expected)
    assert equal(loaded(dataset, num_workers=2, order=order), expected)
    # Nor does it hang on what else is tested.
    fewer = loaded(make(corruptions=DRAWN[:1:-1], severities=[4]))
    assert fewer.keys() < expected.keys() and all(torch.equal(fewer[key], expected[key]) for key in fewer)


@pytest.mark.parametrize('name', DRAWN)
def test_every_image_and_severity_draws_anew(name, make):
    def noise(image, severity, seed=0):
        dataset = make(corruptions=[name], severities=[severity], seed=seed)
        pixels = dataset._clean(image)[0]['img']
        pixels[:], pixels[:, ::4] = 100, 160  # so that only the draws make a difference
        return dataset[image]['inputs']

    assert torch.equal(noise(0, 3), noise(0, 3))
    assert not torch.equal(noise(0, 3), noise(1, 3))
    assert not torch.equal(noise(0, 3), noise(0, 3, seed=1))
    assert not torch.equal(noise(0, 3), noise(0, 4))


def test_random_state_stays(make):
    dataset = make(corruptions=DRAWN, severities=[1])
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    list(dataset)
    assert np.array_equal(np.random.random(3), expected)


def test_decoded_once(make, counted):
    pipeline = [PIPELINE[0], dict(type='Counted'), *PIPELINE[1:]]
    dataset = make(pipeline, corruptions=['contrast', 'pixelate'], severities=[1, 2, 3])
    list(dataset)
    assert counted == [0, 1, 2]


def test_images_do_not_share_pixels(make):
    """The clean image that is kept is not the one that is handed out."""
    dataset = make(corruptions=['contrast'], severities=[1, 2])
    first = dataset[0]['inputs'].clone()
    dataset[0]['inputs'].zero_()
    assert torch.equal(dataset[0]['inputs'], first)


@pytest.mark.parametrize('index', [12, -13])
def test_index_beyond_the_end(index, make):
    dataset = make(corruptions=['contrast', 'pixelate'], severities=[1, 2])
    with pytest.raises(IndexError):
        dataset[index]
    assert torch.equal(dataset[-1]['inputs'], dataset[11]['inputs'])


@pytest.mark.parametrize('pipeline', [PIPELINE[:-1], []], ids=['unpacked', 'empty'])
def test_other_pipelines(pipeline, make):
    with pytest.raises(ValueError, match='CustomDataset to have a pipeline that ends in PackInputs'):
        make(pipeline)


def test_dataset_without_a_pipeline(clean):
    with pytest.raises(ValueError, match='ConcatDataset to have a pipeline'):
        CorruptedDataset(ConcatDataset([clean(), clean()]))


def test_too_small(make):
    small = [PIPELINE[0], dict(type='Resize', scale=(31, 40)), PIPELINE[-1]]
    with pytest.raises(ValueError, match=r'at least 32 px high and wide.*makes \(40, 31, 3\) uint8'):
        make(small)[0]


def test_unknown_corruption(make):
    with pytest.raises(ValueError, match='Expected corruptions to be some of'):
        make(corruptions=['rain'])


@pytest.fixture
def other_library(monkeypatch):
    def other_library(module):
        monkeypatch.setitem(sys.modules, 'imagecorruptions', module)
        corrupted._library.cache_clear()

    yield other_library
    corrupted._library.cache_clear()


def test_without_the_library(other_library, make):
    other_library(None)
    with pytest.raises(ImportError, match='pip install imagecorruptions-imaug'):
        make()


def test_library_that_cannot_be_seeded(other_library, make):
    """The package of the same import name."""
    other_library(types.SimpleNamespace(corruption_dict=dict(impulse_noise=lambda x, severity=1: x), __file__='x.py'))
    with pytest.raises(ImportError, match="seeded, found 'x.py': pip uninstall imagecorruptions"):
        make()


@pytest.mark.slow
@pytest.mark.parametrize('name', BENCHMARK + EXTRA)
def test_every_corruption(name):
    """Each can be repeated and changes the image, the more severe the more; but saturate takes colour away first."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8), (224, 224), interpolation=cv2.INTER_CUBIC)
    changed = []
    for severity in (1, 5):
        once, twice = (corrupt(image, (name, severity), seed=7) for _ in range(2))
        assert once.shape == image.shape and once.dtype == np.uint8 and np.array_equal(once, twice)
        changed.append(np.abs(once.astype(float) - image).mean())
    assert changed[0] > 0 and (changed[0] < changed[1] or name == 'saturate')
