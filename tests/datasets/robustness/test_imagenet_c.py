# Copyright (c) MMMixPro contributors.
"""ImageNet-C: which file is which sample, and what is said of a part of it."""

import pickle

import numpy as np
import pytest
from mmpretrain.registry import DATASETS
from robustness_sets import link, shown

from mmmixpro.datasets.archives import ZipStore
from mmmixpro.datasets.robustness.classes import wnids
from mmmixpro.datasets.robustness.corruptions import BENCHMARK, EXTRA, list_missing

PART = dict(corruptions=['gaussian_noise', 'fog'], severities=[1, 5])


@pytest.fixture
def make(build, sets):
    def make(root=None, **kwargs):
        return build('ImageNetC', data_root=str(root or sets / 'imagenet-c'), **kwargs)

    return make


def test_every_sample_is_noted(make):
    dataset = make(**PART)
    assert len(dataset) == 4000
    for i in (0, 1, 999, 1000, 1999, 2000, 3456, 3999):
        block, label = divmod(i, 1000)
        info = dataset.get_data_info(i)
        corruption, severity = PART['corruptions'][block // 2], PART['severities'][block % 2]
        assert f'/{corruption}/{severity}/{wnids()[label]}/' in info['img_path']
        sample = dataset[i]
        noted = sample['data_samples']
        assert noted.gt_label.item() == shown(sample['inputs']) == label
        assert (noted.corruption, noted.severity) == (corruption, severity)
        assert {'corruption', 'severity'} <= set(noted.metainfo_keys())


def test_severities_are_as_asked_for(make):
    """In their order, and not by what the folder holds besides."""
    dataset = make(corruptions=['fog'], severities=[5])
    assert {dataset.get_data_info(i)['severity'] for i in range(len(dataset))} == {5}
    dataset = make(corruptions=['fog', 'gaussian_noise'], severities=[5, 1])
    assert [dataset[i]['data_samples'].severity for i in (0, 1000, 2000)] == [5, 1, 5]
    assert dataset[0]['data_samples'].corruption == 'fog'


def test_defaults_are_the_benchmark(sets):
    dataset = DATASETS.build(dict(type='ImageNetC', data_root=str(sets), lazy_init=True))
    assert dataset.kinds == [(name, severity) for name in BENCHMARK for severity in range(1, 6)]
    assert len(BENCHMARK) == 15 and len(EXTRA) == 4


def test_extra_corruptions_by_name(make, imagenet, tmp_path):
    (tmp_path / 'spatter').mkdir()
    (tmp_path / 'spatter/3').symlink_to(imagenet / 'val')
    assert len(make(root=tmp_path, corruptions=['spatter'], severities=[3])) == 1000


def test_notes_of_every_view(make):
    """With test-time augmentation a sample is a list of views."""
    flips = [dict(type='RandomFlip', prob=prob) for prob in (1.0, 0.0)]
    both = dict(type='TestTimeAug', transforms=[flips, [dict(type='PackInputs')]])
    dataset = make(pipeline=[dict(type='LoadImageFromFile'), both], **PART)
    assert [view.severity for view in dataset[1500]['data_samples']] == [5, 5]


def test_subsets_and_pickles(make):
    assert len(make(indices=30, **PART)) == 30
    assert make(indices=-30, **PART)[0]['data_samples'].gt_label.item() == 970
    chosen = make(indices=[3999, 5], **PART)
    assert [chosen[i]['data_samples'].corruption for i in (0, 1)] == ['fog', 'gaussian_noise']
    again = pickle.loads(pickle.dumps(make(**PART)))
    assert again.get_data_info(3456) == make(**PART).get_data_info(3456)
    assert len(again.get_subset([7, 1007])) == 2


def test_folders_of_different_lengths(make, imagenet, tmp_path):
    """A sample is found wherever its folder begins."""
    for severity in (1, 2):
        (tmp_path / f'fog/{severity}').mkdir(parents=True)
    link(tmp_path / 'fog/3', imagenet, wnids())
    for wnid in wnids():
        for severity in (1, 2):
            (tmp_path / f'fog/{severity}/{wnid}').symlink_to(imagenet / 'val' / wnid)
    twice = tmp_path / f'fog/1/{wnids()[4]}'
    twice.unlink()
    twice.mkdir()
    for name in ('b.png', 'a.png', 'c.png'):
        (twice / name).symlink_to(next((imagenet / 'val' / wnids()[4]).iterdir()))
    dataset = make(root=tmp_path, corruptions=['fog'], severities=[1, 2, 3])
    infos = [dataset.get_data_info(i) for i in (4, 5, 6, 7, 1001, 1002, 2002)]
    assert [info['gt_label'] for info in infos] == [4, 4, 4, 5, 999, 0, 0]
    assert [info['severity'] for info in infos] == [1, 1, 1, 1, 1, 2, 3]
    assert [info['img_path'][-5:] for info in infos[:3]] == ['a.png', 'b.png', 'c.png']


def test_zip_for_each_corruption(make, imagenet, tmp_path):
    with ZipStore(tmp_path / 'imagenet-c/fog.zip') as archive:
        for label, wnid in enumerate(wnids()):
            content = next((imagenet / 'val' / wnid).iterdir()).read_bytes()
            archive.write(f'2/{wnid}/{label}.png', content)
    dataset = make(root=f'zip://{tmp_path}/imagenet-c', corruptions=['fog'], severities=[2])
    assert len(dataset) == 1000 and shown(dataset[777]['inputs']) == 777
    with pytest.raises(FileNotFoundError, match='lacks of ImageNet-C: snow.'):
        make(root=f'zip://{tmp_path}/imagenet-c', corruptions=['snow', 'fog'], severities=[2])


def test_what_is_missing_is_named(make, sets):
    expected = r"imagenet-c' lacks of ImageNet-C: gaussian_noise/2, fog/2, snow\. Unpack .*zenodo.*allow_missing=True"
    with pytest.raises(FileNotFoundError, match=expected):
        make(corruptions=['gaussian_noise', 'fog', 'snow'], severities=[1, 2, 5])


def test_the_rest_is_tested_if_asked_for(make, logged):
    dataset = make(corruptions=['snow', 'fog'], severities=[1, 2, 5], allow_missing=True)
    assert len(dataset) == 2000
    assert [dataset[i]['data_samples'].severity for i in (0, 999, 1000)] == [1, 1, 5]
    assert {dataset.get_data_info(i)['corruption'] for i in range(len(dataset))} == {'fog'}
    assert 'lacks of ImageNet-C: snow, fog/2. Tested on the rest.' in logged[0]
    assert 'to have 50000 images; 2 of 6 have not, such as fog/1 with 1000' in logged[1]


def test_missing_classes(make, imagenet, tmp_path, logged):
    link(tmp_path / 'fog/1', imagenet, wnids()[3:])
    with pytest.raises(
        FileNotFoundError, match=r'fog/1 \(3 of 1000 classes, such as n01440764, n01443537, n01484850\)'
    ):
        make(root=tmp_path, corruptions=['fog'], severities=[1])
    dataset = make(root=tmp_path, corruptions=['fog'], severities=[1], allow_missing=True)
    assert len(dataset) == 997 and dataset[0]['data_samples'].gt_label.item() == 3


def test_nothing_is_there(make, tmp_path):
    with pytest.raises(FileNotFoundError, match='lacks of ImageNet-C: fog, snow.'):
        make(root=tmp_path / 'nowhere', corruptions=['fog', 'snow'], allow_missing=True)


def test_list_missing():
    missing = {('fog', 1): '', ('fog', 2): '', ('snow', 2): '', ('frost', 1): '', ('frost', 2): '3 of 1000 classes'}
    assert list_missing(missing, [1, 2]) == 'fog, snow/2, frost/1, frost/2 (3 of 1000 classes)'


@pytest.mark.parametrize(
    'wrong',
    [
        dict(corruptions=['fogg']),
        dict(corruptions='fog'),
        dict(corruptions=[]),
        dict(corruptions=['fog', 'fog']),
        dict(severities=[0]),
        dict(severities=[6]),
        dict(severities=[]),
    ],
    ids=str,
)
def test_wrong_arguments(wrong, make):
    (what,) = wrong
    with pytest.raises(ValueError, match=f'Expected {what} to be some of .* got'):
        make(**{**PART, **wrong})


def test_names_take_little_memory(make):
    """Of 3.75 million images, about 0.1 GB: a name and a label each."""
    dataset = make(**PART)
    assert dataset.names.nbytes + dataset.labels.nbytes < 40 * len(dataset)
    assert dataset.labels.dtype == np.int16
