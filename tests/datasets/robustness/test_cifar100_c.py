# Copyright (c) MMMixPro contributors.
"""CIFAR-100-C: which row is which sample, and files that are not what they should be."""

import pickle

import numpy as np
import pytest
from robustness_sets import write_cifar100_c

PIPELINE = [dict(type='PackInputs')]


@pytest.fixture
def make(build, sets):
    def make(root=None, **kwargs):
        kwargs = {**dict(corruptions=['gaussian_noise', 'fog'], pipeline=PIPELINE), **kwargs}
        return build('CIFAR100C', data_root=str(root or sets / 'cifar100-c'), **kwargs)

    return make


@pytest.fixture
def root(tmp_path):
    """A set that may be broken."""
    write_cifar100_c(tmp_path / 'cifar100-c')
    return tmp_path / 'cifar100-c'


@pytest.mark.parametrize('severities', [[1, 2, 3, 4, 5], [4, 2]])
def test_rows_of_a_severity(severities, make):
    dataset = make(severities=severities)
    assert len(dataset) == 2 * len(severities) * 10000
    for number, corruption in enumerate(('gaussian_noise', 'fog')):
        for block, severity in enumerate(severities):
            for image in range(2):
                sample = dataset[(number * len(severities) + block) * 10000 + image]
                noted = sample['data_samples']
                assert (noted.corruption, noted.severity) == (corruption, severity)
                assert noted.gt_label.item() == 10 * severity + image
                assert sample['inputs'].shape == (3, 32, 32)
                assert sample['inputs'].flatten(1).unique(dim=1).flatten().tolist() == [10 * severity, image, number]


def test_classes(make):
    assert len(make().metainfo['classes']) == 100


def test_arrays_are_not_read(make):
    """They are mapped, and pickled as the names of their files, for workers that are not forked."""
    dataset = make()
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 100_000
    again = pickle.loads(pickled)
    assert again[30001]['data_samples'].gt_label.item() == 41
    assert all(isinstance(mapped.array, np.memmap) for mapped in again.images.values())


def test_samples_are_copies(make):
    """A pipeline may write into an image; the file is not opened for that."""
    info = make().get_data_info(0)
    info['img'][:] = 0
    assert make().get_data_info(0)['img'][0, 0].tolist() == [10, 0, 0]


def test_what_is_missing_is_named(make):
    with pytest.raises(FileNotFoundError, match='lacks of CIFAR-100-C: snow, pixelate. Unpack CIFAR-100-C.tar'):
        make(corruptions=['snow', 'fog', 'pixelate'])


def test_the_rest_is_tested_if_asked_for(make, logged):
    dataset = make(corruptions=['snow', 'fog'], severities=[3], allow_missing=True)
    assert len(dataset) == 10000 and dataset[1]['data_samples'].corruption == 'fog'
    assert dataset[1]['data_samples'].gt_label.item() == 31
    assert len(logged) == 1 and 'lacks of CIFAR-100-C: snow. Tested on the rest.' in logged[0]


def test_nothing_is_there(make, tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.* lacks of CIFAR-100-C: gaussian_noise, fog.'):
        make(root=tmp_path / 'nowhere', allow_missing=True)


def test_no_labels(make, root):
    (root / 'labels.npy').unlink()
    with pytest.raises(FileNotFoundError, match='labels.npy.*found none.*CIFAR-100-C.tar'):
        make(root=root, allow_missing=True)


@pytest.mark.parametrize(
    ('labels', 'found'),
    [
        (np.zeros(10000, np.uint8), r'to be \(50000,\) integer, found \(10000,\) uint8'),
        (np.zeros(50000, np.float32), r'to be \(50000,\) integer, found \(50000,\) float32'),
        (np.full(50000, 100), 'found 100 to 100'),
        (np.full(50000, -1), 'found -1 to -1'),
    ],
    ids=['length', 'type', 'high', 'low'],
)
def test_other_labels(labels, found, make, root):
    np.save(root / 'labels.npy', labels)
    with pytest.raises(ValueError, match=f'labels.npy.*{found}.*CIFAR-100-C.tar'):
        make(root=root)


def test_other_images(make, root):
    """Those of one severity, as other sets have them."""
    np.save(root / 'fog.npy', np.zeros((10000, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match=r'fog.npy.*\(50000, 32, 32, 3\) uint8, found \(10000, 32, 32, 3\) uint8'):
        make(root=root)


@pytest.mark.parametrize('size', [0, 100, 1_000_000])
def test_half_a_file(size, make, root):
    with open(root / 'fog.npy', 'r+b') as file:
        file.truncate(size)
    with pytest.raises(ValueError, match=r'fog.npy. is no whole .npy file .*Copy it again'):
        make(root=root)
