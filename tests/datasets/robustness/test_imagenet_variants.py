# Copyright (c) MMMixPro contributors.
"""ImageNet-A, -O, -R, -Sketch and -V2: classes, labels, order; and roots that are not what they should be."""

import pickle
from pathlib import Path

import pytest
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
from robustness_sets import link, shown

from mmmixpro.datasets.archives import LmdbStore, ZipStore
from mmmixpro.datasets.robustness import classes
from mmmixpro.datasets.robustness.classes import indices, wnids
from mmmixpro.datasets.robustness.imagenet_o import IMAGENET_O

SETS = dict(
    ImageNetA=('imagenet-a', 200),
    ImageNetR=('imagenet-r', 200),
    ImageNetSketch=('imagenet-sketch', 1000),
    ImageNetV2=('imagenet-v2', 1000),
)


def labels_of(dataset):
    return [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]


@pytest.fixture
def make(build, sets, imagenet):
    """A set by its type, ImageNet-O with its two roots."""

    def make(type, root=None, **kwargs):
        if type == 'ImageNetO':
            return build(type, data_root=str(root or sets / 'imagenet-o'), val_root=str(imagenet / 'val'), **kwargs)
        return build(type, data_root=str(root or sets / SETS[type][0]), **kwargs)

    return make


@pytest.mark.parametrize('type', SETS)
def test_label_is_the_class_that_is_seen(type, make):
    dataset = make(type)
    assert len(dataset) == SETS[type][1]
    for i in range(0, len(dataset), 37):
        sample = dataset[i]
        assert sample['inputs'].shape == (3, 40, 40)
        assert sample['data_samples'].gt_label.item() == shown(sample['inputs'])


@pytest.mark.parametrize('type', SETS)
def test_samples_are_in_the_order_of_their_labels(type, make):
    """Also of ImageNet-V2, whose folder '10' comes before '2' by name."""
    labels = labels_of(make(type))
    assert labels == sorted(labels) and len(set(labels)) == len(labels)


def test_folders_of_v2_are_indices(make):
    dataset = make('ImageNetV2')
    for label in (1, 2, 10, 11, 100, 999):
        path = Path(dataset.get_data_info(label)['img_path'])
        assert path.parent.name == str(label) == str(labels_of(dataset)[label])


@pytest.mark.parametrize('name', ['imagenet_a', 'imagenet_r'])
def test_subset_is_the_one_that_timm_counts_out(name, make):
    """timm lists the indices too, in a file of their own."""
    timm = Path(classes.find_spec('timm').origin).parent
    expected = [int(line) for line in (timm / f'data/_info/{name}_indices.txt').read_text().split()]
    subset = make('ImageNet' + name[-1].upper()).metainfo['subset']
    assert subset == expected == sorted(expected) and len(set(subset)) == 200
    assert labels_of(make('ImageNet' + name[-1].upper())) == subset


def test_no_other_subset(make):
    for name in ('ImageNetA', 'ImageNetV2'):
        with pytest.raises(ValueError, match=rf"{name} has the \d+ classes .* found metainfo\['subset'\] too"):
            make(name, metainfo=dict(subset=[1, 2]))
    assert make('ImageNetA', metainfo=dict(task='x')).metainfo.keys() == {'classes', 'subset', 'task'}


def test_known_classes():
    """By wnid, index and name, and whether they are among those of ImageNet-A and ImageNet-O."""
    known = {
        'n01498041': (6, 'stingray', 'A'),
        'n01443537': (1, 'goldfish', 'O'),
        'n01770081': (70, 'harvestman', 'AO'),
        'n01704323': (51, 'triceratops', 'O'),
        'n13052670': (996, 'hen-of-the-woods', 'O'),
        'n01440764': (0, 'tench', ''),
        'n12267677': (988, 'acorn', 'AO'),
    }
    sets = dict(A=wnids('imagenet_a'), O=IMAGENET_O.split())
    for wnid, (index, name, where) in known.items():
        assert wnids()[index] == wnid and indices([wnid]) == {wnid: index}
        assert name in IMAGENET_CATEGORIES[index]
        assert {letter for letter, names in sets.items() if wnid in names} == set(where)


def test_classes_of_o_are_its_own():
    """200, in order, of which ImageNet-A has 59."""
    names = IMAGENET_O.split()
    assert len(names) == len(set(names)) == 200 and names == sorted(names)
    assert set(names) <= set(wnids())
    assert len(set(names) & set(wnids('imagenet_a'))) == 59


def test_o_has_two_halves(make):
    dataset = make('ImageNetO')
    subset = dataset.metainfo['subset']
    assert subset == sorted(wnids().index(name) for name in IMAGENET_O.split())
    assert labels_of(dataset) == subset * 2
    for i in (0, 7, 199, 200, 207, 399):
        sample = dataset[i]
        (folder,) = [part for part in ('val', 'imagenet-o') if part in Path(dataset.get_data_info(i)['img_path']).parts]
        assert sample['data_samples'].ood is (folder == 'imagenet-o') is (i >= 200)
        assert 'ood' in sample['data_samples'].metainfo_keys()
        assert sample['data_samples'].gt_label.item() == shown(sample['inputs'])


def test_whole_sets_have_no_subset(make):
    assert 'subset' not in make('ImageNetV2').metainfo
    assert 'subset' not in make('ImageNetSketch').metainfo
    assert len(make('ImageNetA').metainfo['classes']) == 1000


def test_serialised_and_shortened(build, sets):
    dataset = build('ImageNetR', data_root=str(sets / 'imagenet-r'), indices=[150, 3])
    assert labels_of(dataset) == [dataset.metainfo['subset'][i] for i in (150, 3)]


@pytest.mark.parametrize(('scheme', 'store'), [('zip', ZipStore), ('lmdb', LmdbStore)])
def test_archives(scheme, store, make, sets, tmp_path):
    if scheme == 'lmdb':
        pytest.importorskip('lmdb')
    with store(tmp_path / f'imagenet-a.{scheme}') as archive:
        for path in sorted((sets / 'imagenet-a').glob('*/*.png')):
            archive.write('/'.join(path.parts[-2:]), path.read_bytes())
    dataset = make('ImageNetA', root=f'{scheme}://{tmp_path / "imagenet-a"}')
    assert labels_of(dataset) == dataset.metainfo['subset']
    sample = dataset[123]
    assert sample['data_samples'].gt_label.item() == shown(sample['inputs'])


def test_no_root(make, tmp_path):
    with pytest.raises(FileNotFoundError, match='ImageNet-A in .*nowhere.* 200 classes.*none of them.*imagenet-a.tar'):
        make('ImageNetA', root=tmp_path / 'nowhere')


def test_one_folder_too_deep(make, sets, tmp_path):
    """As it is where the archive brought a folder along."""
    (tmp_path / 'imagenet-v2').mkdir()
    (tmp_path / 'imagenet-v2/imagenetv2-matched-frequency-format-val').symlink_to(sets / 'imagenet-v2')
    with pytest.raises(FileNotFoundError, match='none of them.*folders there: imagenetv2-matched-frequency-format-val'):
        make('ImageNetV2', root=tmp_path / 'imagenet-v2')


@pytest.mark.parametrize('type', ['ImageNetA', 'ImageNetO'])
def test_missing_classes_are_named(type, make, imagenet, tmp_path):
    names = wnids('imagenet_a') if type == 'ImageNetA' else IMAGENET_O.split()
    link(tmp_path / 'part', imagenet, names[:-2])
    (tmp_path / 'part' / names[-2]).mkdir()  # a folder without an image
    (tmp_path / 'part' / names[-2] / 'readme.txt').touch()
    with pytest.raises(FileNotFoundError, match=f'found 198 of them, without {names[-2]}, {names[-1]} '):
        make(type, root=tmp_path / 'part')


def test_missing_validation_images_of_o(build, sets, imagenet, tmp_path):
    link(tmp_path / 'val', imagenet, IMAGENET_O.split()[1:])
    with pytest.raises(FileNotFoundError, match="ImageNet's validation images in .*without n01443537 .*imagenet.py"):
        build('ImageNetO', data_root=str(sets / 'imagenet-o'), val_root=str(tmp_path / 'val'))


def test_another_set(make, imagenet):
    """ImageNet itself has all classes of ImageNet-A."""
    with pytest.raises(ValueError, match='found 800 other classes of ImageNet too: n01440764'):
        make('ImageNetA', root=imagenet / 'val')


def test_number_of_images_is_compared(make, logged):
    make('ImageNetA')
    assert len(logged) == 1 and 'to have 7500 images, found 200' in logged[0]


def test_without_timm(monkeypatch):
    monkeypatch.setattr(classes, 'find_spec', lambda name: None)
    wnids.cache_clear()
    with pytest.raises(ImportError, match='pip install timm'):
        wnids('imagenet_a')


def test_pickled(make):
    dataset = make('ImageNetO')
    again = pickle.loads(pickle.dumps(dataset))
    assert labels_of(again) == labels_of(dataset)
