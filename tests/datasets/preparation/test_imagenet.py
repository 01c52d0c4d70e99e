# Copyright (c) MMMixPro contributors.
"""ImageNet from miniature downloads and folders, whole and broken, to each layout, and into the configs."""

import importlib.util
import io
import os
import signal
import sys
import tarfile
from pathlib import Path

import lmdb_stand_in
import miniatures
import numpy as np
import pytest
from filelock import FileLock
from mmengine.config import Config
from mmengine.fileio import get_file_backend
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from PIL import Image

from mmmixpro.datasets.archives import FolderStore, LmdbStore, ZipStore
from mmmixpro.datasets.preparation import common
from mmmixpro.datasets.preparation.imagenet import STORES, check_split, prepare_imagenet
from mmmixpro.datasets.preparation.imagenet_sources import DEVKIT, TARS, DevKit
from mmmixpro.engine.preflight import check_data_paths

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
IMAGES = dict(train=miniatures.train_images(), val=miniatures.val_images())
LAYOUTS = sorted(STORES)


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """The official downloads; where they go is ``tmp_path / 'out'``."""
    if importlib.util.find_spec('lmdb') is None:
        monkeypatch.setitem(sys.modules, 'lmdb', lmdb_stand_in)
    folder = tmp_path / 'downloads'
    miniatures.write_imagenet_downloads(folder)
    miniatures.publish_imagenet(folder, monkeypatch)
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'out'


def content(out, split, layout):
    root = str(out / split) if layout == 'folder' else f'{layout}://{out / split}'
    backend = get_file_backend(root)
    return {
        name: backend.get(f'{root}/{name}') for name in backend.list_dir_or_file(root, list_dir=False, recursive=True)
    }


def visible(out):
    return sorted(path.name for path in out.iterdir() if not path.name.startswith('.')) if out.is_dir() else []


@pytest.fixture
def no_writing(monkeypatch):
    """From now on nothing may be written, nor read for its MD5 sum."""

    def forbid():
        for store in (FolderStore, ZipStore, LmdbStore):
            monkeypatch.setattr(store, 'write', None)
        monkeypatch.setattr(common, '_md5', None)

    return forbid


@pytest.mark.parametrize('layout', LAYOUTS)
def test_from_downloads_and_again(layout, downloads, out, no_writing):
    lines = prepare_imagenet(downloads, out, layout)
    assert [line.partition(': ')[2] for line in lines] == [
        '12 images of 3 classes; 12 decoded',
        '6 images of 3 classes; 6 decoded',
    ]
    assert {split: content(out, split, layout) for split in IMAGES} == IMAGES
    no_writing()
    assert prepare_imagenet(downloads, out, layout) == lines


def test_one_split_and_fewer_decoded(downloads, out):
    assert prepare_imagenet(downloads, out, splits=('val',), num_decoded=2)[0].endswith('of 3 classes; 2 decoded')
    assert visible(out) == ['val']


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('flat', [False, True], ids=['in folders', 'validation images without folders'])
def test_from_folders(layout, flat, downloads, tmp_path, out):
    source = tmp_path / 'source'
    miniatures.write_folders(source / 'train', IMAGES['train'])
    val = {name.split('/')[1]: data for name, data in IMAGES['val'].items()} if flat else IMAGES['val']
    miniatures.write_folders(source / 'val', val)
    (source / DEVKIT).write_bytes((downloads / DEVKIT).read_bytes())
    prepare_imagenet(source, out, layout)
    assert {split: content(out, split, layout) for split in IMAGES} == IMAGES
    if layout == 'folder':
        assert (out / 'train').resolve() == source / 'train'  # not copied
        assert (out / 'val').is_symlink() != flat


def test_folders_in_place_are_checked(downloads, out, no_writing):
    for split, images in IMAGES.items():
        miniatures.write_folders(out / split, images)
    no_writing()
    assert len(prepare_imagenet(out, out)) == 2


def test_a_part_has_whatever_counts(downloads, tmp_path, out):
    part = {f'cat/{i}.png': miniatures.jpeg(i) for i in range(3)}
    for split in IMAGES:
        miniatures.write_folders(tmp_path / 'part' / split, part)
    with pytest.raises(ValueError, match='Expected 12 images in .*/part/train.*found 3.*--subset'):
        prepare_imagenet(tmp_path / 'part', out, 'zip')
    assert visible(out) == []
    assert prepare_imagenet(tmp_path / 'part', out, 'zip', official=False)[0].endswith(
        '3 images of 1 classes; 3 decoded'
    )


@pytest.mark.parametrize('layout', LAYOUTS)
def test_killed_run_goes_on(layout, downloads, out, monkeypatch):
    """kill -9 once in each split; what was written by then is not written again."""
    monkeypatch.setattr('mmmixpro.datasets.archives.lmdb_archive.COMMIT_EVERY', 1)
    store = STORES[layout]
    write, written = store.write, []

    def killed_at(num):
        if (pid := os.fork()) == 0:

            def deadly(self, name, data):
                if name == list_of_all[num]:
                    if layout == 'zip':
                        self.file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                write(self, name, data)

            monkeypatch.setattr(store, 'write', deadly)
            prepare_imagenet(downloads, out, layout)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL

    list_of_all = [*sorted(IMAGES['train']), *sorted(IMAGES['val'], key=lambda name: name.split('/')[1])]
    killed_at(7)
    assert visible(out) == []
    killed_at(14)
    assert visible(out) == ['train' if layout == 'folder' else f'train.{layout}']

    def noted(self, name, data):
        written.append(name)
        write(self, name, data)

    monkeypatch.setattr(store, 'write', noted)
    monkeypatch.setattr(common, '_md5', None)  # nor are the downloads read for that once more
    prepare_imagenet(downloads, out, layout)
    assert written == list_of_all[14:]
    assert {split: content(out, split, layout) for split in IMAGES} == IMAGES
    assert not list(out.glob('.*.partial'))


def test_another_process_is_kept_out(downloads, out):
    out.mkdir()
    with FileLock(out / '.preparing.lock'), pytest.raises(RuntimeError, match='Another process is writing'):
        prepare_imagenet(downloads, out)
    prepare_imagenet(downloads, out)


class TestBroken:
    @pytest.mark.parametrize('name', [TARS['train'], TARS['val'], DEVKIT])
    def test_missing_download(self, name, downloads, out):
        (downloads / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf'(?s)Expected .*{name.split("_")[1]}.*found only'):
            prepare_imagenet(downloads, out)
        assert visible(out) == []

    def test_missing_source(self, tmp_path, out):
        with pytest.raises(FileNotFoundError, match=r"/nowhere/train', a folder.*img_train.tar.*found only"):
            prepare_imagenet(tmp_path / 'nowhere', out)

    @pytest.mark.parametrize('name', [TARS['train'], TARS['val'], DEVKIT])
    def test_wrong_hash(self, name, downloads, out):
        path = downloads / name
        whole = path.read_bytes()
        path.write_bytes(whole + b'\0')
        for _ in range(2):  # what has been noted does not hide it
            with pytest.raises(
                ValueError, match=rf'{name}.*not the published file: expected the MD5 sum [0-9a-f]{{32}}'
            ):
                prepare_imagenet(downloads, out)
        assert visible(out) == []
        path.write_bytes(whole)
        prepare_imagenet(downloads, out)

    @pytest.mark.parametrize('layout', LAYOUTS)
    @pytest.mark.parametrize('split', ['train', 'val'])
    def test_truncated_archive_then_a_whole_one(self, layout, split, downloads, out):
        path = downloads / TARS[split]
        whole = path.read_bytes()
        # Within an image, within a header, and where nothing but the number of images tells.
        for size in (len(whole) // 2, len(whole) // 1024 * 512 + 100, whole.rindex(b'.JPEG') // 512 * 512):
            path.write_bytes(whole[:size])
            with pytest.raises(
                ValueError, match=rf'(?s){TARS[split]}.*(cut short|found \d+).*goes on where it stopped'
            ):
                prepare_imagenet(downloads, out, layout, splits=(split,), md5=False)
            assert visible(out) == []
        path.write_bytes(whole)
        prepare_imagenet(downloads, out, layout, splits=(split,))
        assert content(out, split, layout) == IMAGES[split]

    @pytest.mark.parametrize(
        'files',
        [
            {'n01440764/x.JPEG': b'1'},
            {'n01440764.tar': miniatures.tar({'../../x.JPEG': b'1'})},
            {'n01440764.tar': b'no archive' * 100},
            {'.tar': miniatures.tar({'x.JPEG': b'1'})},
        ],
    )
    def test_archive_of_something_else(self, files, downloads, tmp_path, out):
        (downloads / TARS['train']).write_bytes(miniatures.tar(files))
        with pytest.raises(ValueError, match=r'img_train.tar'):
            prepare_imagenet(downloads, out, official=False)
        assert visible(out) == []
        assert not (tmp_path / 'x.JPEG').exists()

    def test_archive_of_other_validation_images(self, downloads, out):
        (downloads / TARS['val']).write_bytes(miniatures.tar({'ILSVRC2012_val_00000007.JPEG': b'1'}))
        with pytest.raises(ValueError, match=r'to 00000006.JPEG, found .*00000007'):
            prepare_imagenet(downloads, out, splits=('val',), official=False)

    @pytest.mark.parametrize('cut', [0.3, 0.7])
    def test_truncated_devkit(self, cut, downloads):
        whole = (downloads / DEVKIT).read_bytes()
        (downloads / DEVKIT).write_bytes(whole[: int(len(whole) * cut)])
        with pytest.raises(ValueError, match='not the development kit, or broken'):
            DevKit(downloads / DEVKIT)

    @pytest.mark.parametrize('meta', [b'', b'no matrix' * 30])
    def test_devkit_of_something_else(self, meta, downloads):
        files = {'meta.mat': meta, 'ILSVRC2012_validation_ground_truth.txt': b'1\n'}
        (downloads / DEVKIT).write_bytes(
            miniatures.tar({f'ILSVRC2012_devkit_t12/data/{name}': data for name, data in files.items()}, 'w:gz')
        )
        with pytest.raises(ValueError, match='not the development kit, or broken'):
            DevKit(downloads / DEVKIT)

    def test_lmdb_missing_before_anything_is_read(self, downloads, out, monkeypatch):
        monkeypatch.setitem(sys.modules, 'lmdb', None)
        monkeypatch.setattr(common, '_md5', None)
        with pytest.raises(ImportError, match='pip install lmdb'):
            prepare_imagenet(downloads, out, 'lmdb')

    def test_empty_file_in_a_folder(self, downloads, tmp_path, out):
        for split, images in IMAGES.items():
            miniatures.write_folders(tmp_path / 'source' / split, images)
        path = tmp_path / 'source/train/n01440764/n01440764_2.JPEG'
        path.write_bytes(b'')
        with pytest.raises(ValueError, match="n01440764_2.JPEG' is empty. Copy it again"):
            prepare_imagenet(tmp_path / 'source', out, 'zip')
        path.write_bytes(IMAGES['train']['n01440764/n01440764_2.JPEG'])
        prepare_imagenet(tmp_path / 'source', out, 'zip')
        assert content(out, 'train', 'zip') == IMAGES['train']


class TestCheck:
    @pytest.fixture
    def folder(self, downloads, out):
        prepare_imagenet(downloads, out)
        return out

    def test_says_what_is_missing(self, folder, downloads):
        devkit = DevKit(downloads / DEVKIT)
        (folder / 'train/n01440764/n01440764_2.JPEG').unlink()
        with pytest.raises(ValueError, match=r'(?s)expected 12, found 11.*n01440764 \(expected 3, found 2\).*Remove'):
            check_split(folder, 'train', 'folder', devkit)
        wrong = folder / 'val/n01440764/ILSVRC2012_val_00000001.JPEG'
        wrong.rename(folder / 'val/n02100735' / wrong.name)
        with pytest.raises(ValueError) as caught:
            check_split(folder, 'val', 'folder', devkit)
        assert 'missing images (1): n01440764/ILSVRC2012_val_00000001.JPEG' in str(caught.value)
        assert 'should not be there (1): n02100735/ILSVRC2012_val_00000001.JPEG' in str(caught.value)

    def test_validation_images_without_folders(self, folder):
        for path in list((folder / 'val').glob('*/*')):
            path.rename(folder / 'val' / path.name)
        for path in list((folder / 'val').iterdir()):
            if path.is_dir():
                path.rmdir()
        with pytest.raises(ValueError, match=r'(?s)none in folders of classes.*expected 3, found 0'):
            check_split(folder, 'val', 'folder')

    @pytest.mark.parametrize('layout', LAYOUTS)
    @pytest.mark.parametrize('damage', [lambda data: data[:-40], lambda data: b'', lambda data: b'GIF89a'])
    def test_truncated_image_is_named(self, layout, damage, downloads, out):
        """Within a whole archive."""
        images = dict(IMAGES['train'])
        name = 'n02119789/n02119789_4.JPEG'
        images[name] = damage(images[name])
        with STORES[layout](out / ('train' if layout == 'folder' else f'train.{layout}')) as store:
            for image, data in images.items():
                store.write(image, data)
        with pytest.raises(ValueError, match=rf'(?s)broken images \(1\): {name} \(\d+ bytes: '):
            check_split(out, 'train', layout)

    def test_cmyk_and_png_are_images(self, folder):
        """ImageNet has a few; their names are like all others'."""
        for number, mode, format in ((1, 'CMYK', 'jpeg'), (2, 'RGBA', 'png')):
            data = io.BytesIO()
            Image.new(mode, (4, 5)).save(data, format)
            (folder / f'train/n01440764/n01440764_{number}.JPEG').write_bytes(data.getvalue())
        check_split(folder, 'train', 'folder')


@pytest.mark.parametrize('layout', ['zip', 'lmdb'])
@pytest.mark.parametrize('leaf', ['mixpro/deit-s_8xb128_in1k.py', 'mixpro/pvt-s_fast_8xb128_in1k.py'])
def test_any_config_reads_archives_by_its_data_root(layout, leaf, downloads, out, monkeypatch):
    """The same samples, in the same order, as from folders; read by two workers."""
    prepare_imagenet(downloads, out)
    prepare_imagenet(downloads, out, layout)
    init_default_scope('mmpretrain')
    batches = {}
    for root in (str(out), f'{layout}://{out}'):
        monkeypatch.setenv('IMAGENET_ROOT', root)
        cfg = Config.fromfile(CONFIGS / leaf)
        assert cfg.train_dataloader.dataset.data_root == cfg.val_dataloader.dataset.data_root == root
        check_data_paths(cfg, ('train_dataloader', 'val_dataloader'))
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.dataset.metainfo = dict(classes=sorted(miniatures.WNIDS))
            loader.update(num_workers=2, batch_size=2)
            loader.dataset.serialize_data = False
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        assert [Path(dataset.get_data_info(i)['img_path']).name for i in range(12)] == [
            name.split('/')[1] for name in sorted(IMAGES['train'])
        ]
        assert dataset.get_gt_labels().tolist() == [0] * 3 + [1] * 4 + [2] * 5
        batches[root] = list(Runner.build_dataloader(cfg.val_dataloader))
    assert len(batches[str(out)]) == 3
    for ours, local in zip(*batches.values(), strict=True):
        np.testing.assert_array_equal(np.stack(ours['inputs']), np.stack(local['inputs']))
        assert [s.gt_label for s in ours['data_samples']] == [s.gt_label for s in local['data_samples']]


def test_missing_archive_stops_a_training_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv('IMAGENET_ROOT', f'zip://{tmp_path}')
    cfg = Config.fromfile(CONFIGS / 'mixpro/deit-s_8xb128_in1k.py')
    (tmp_path / 'val.zip').touch()
    with pytest.raises(FileNotFoundError, match=rf"expects 'zip://{tmp_path}/train', found only .*IMAGENET_ROOT="):
        check_data_paths(cfg, ('train_dataloader',))


def test_members_of_the_miniature_are_as_those_of_the_downloads(downloads):
    """Of what the tests stand on: an archive for each class, validation images without folders."""
    with tarfile.open(downloads / TARS['train']) as tar:
        assert tar.getnames() == ['n01440764.tar', 'n02100735.tar', 'n02119789.tar']
    with tarfile.open(downloads / TARS['val']) as tar:
        assert tar.getnames()[0] == 'ILSVRC2012_val_00000001.JPEG'
    devkit = DevKit(downloads / DEVKIT)
    assert devkit.train_counts == miniatures.WNIDS
    assert devkit.val_names() == sorted(IMAGES['val'], key=lambda name: name.split('/')[1])
