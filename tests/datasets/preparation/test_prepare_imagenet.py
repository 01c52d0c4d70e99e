# Copyright (c) MMMixPro contributors.
"""ImageNet from miniature downloads and folders to each layout, also by a run that was killed."""

import os
import signal
import tarfile

import miniatures
import pytest
from filelock import FileLock

from mmmixpro.datasets.archives import FolderStore, LmdbStore, ZipStore
from mmmixpro.datasets.preparation import common
from mmmixpro.datasets.preparation.imagenet import STORES, prepare_imagenet
from mmmixpro.datasets.preparation.imagenet_sources import DEVKIT, TARS, DevKit

IMAGES = dict(train=miniatures.train_images(), val=miniatures.val_images())
LAYOUTS = sorted(STORES)


@pytest.fixture
def no_writing(monkeypatch):
    """From now on nothing may be written, nor read for its MD5 sum."""

    def forbid():
        for store in (FolderStore, ZipStore, LmdbStore):
            monkeypatch.setattr(store, 'write', None)
        monkeypatch.setattr(common, '_md5', None)

    return forbid


@pytest.mark.parametrize('layout', LAYOUTS)
def test_from_downloads_and_again(layout, downloads, out, no_writing, content):
    lines = prepare_imagenet(downloads, out, layout)
    assert [line.partition(': ')[2] for line in lines] == [
        '12 images of 3 classes; 12 decoded',
        '6 images of 3 classes; 6 decoded',
    ]
    assert {split: content(split, layout) for split in IMAGES} == IMAGES
    no_writing()
    assert prepare_imagenet(downloads, out, layout) == lines


def test_one_split_and_fewer_decoded(downloads, out, visible):
    assert prepare_imagenet(downloads, out, splits=('val',), num_decoded=2)[0].endswith('of 3 classes; 2 decoded')
    assert visible() == ['val']


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('flat', [False, True], ids=['in folders', 'validation images without folders'])
def test_from_folders(layout, flat, downloads, tmp_path, out, content):
    source = tmp_path / 'source'
    miniatures.write_folders(source / 'train', IMAGES['train'])
    val = {name.split('/')[1]: data for name, data in IMAGES['val'].items()} if flat else IMAGES['val']
    miniatures.write_folders(source / 'val', val)
    (source / DEVKIT).write_bytes((downloads / DEVKIT).read_bytes())
    prepare_imagenet(source, out, layout)
    assert {split: content(split, layout) for split in IMAGES} == IMAGES
    if layout == 'folder':
        assert (out / 'train').resolve() == source / 'train'  # not copied
        assert (out / 'val').is_symlink() != flat


def test_folders_in_place_are_checked(downloads, out, no_writing):
    for split, images in IMAGES.items():
        miniatures.write_folders(out / split, images)
    no_writing()
    assert len(prepare_imagenet(out, out)) == 2


def test_a_part_has_whatever_counts(downloads, tmp_path, out, visible):
    part = {f'cat/{i}.png': miniatures.jpeg(i) for i in range(3)}
    for split in IMAGES:
        miniatures.write_folders(tmp_path / 'part' / split, part)
    with pytest.raises(ValueError, match=r'(?s)/part/train.*expected 12, found 3.*--subset'):
        prepare_imagenet(tmp_path / 'part', out, 'zip')
    assert visible() == []
    assert prepare_imagenet(tmp_path / 'part', out, 'zip', official=False)[0].endswith(
        '3 images of 1 classes; 3 decoded'
    )


@pytest.mark.parametrize('layout', LAYOUTS)
def test_killed_run_goes_on(layout, downloads, out, monkeypatch, content, visible):
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
    assert visible() == []
    killed_at(14)
    assert visible() == ['train' if layout == 'folder' else f'train.{layout}']

    def noted(self, name, data):
        written.append(name)
        write(self, name, data)

    monkeypatch.setattr(store, 'write', noted)
    monkeypatch.setattr(common, '_md5', None)  # nor are the downloads read for that once more
    prepare_imagenet(downloads, out, layout)
    assert written == list_of_all[14:]
    assert {split: content(split, layout) for split in IMAGES} == IMAGES
    assert not list(out.glob('.*.partial'))


def test_another_process_is_kept_out(downloads, out):
    out.mkdir()
    with FileLock(out / '.preparing.lock'), pytest.raises(RuntimeError, match='Another process is writing'):
        prepare_imagenet(downloads, out)
    prepare_imagenet(downloads, out)


def test_members_of_the_miniature_are_as_those_of_the_downloads(downloads):
    """Of what the tests stand on: an archive for each class, validation images without folders."""
    with tarfile.open(downloads / TARS['train']) as tar:
        assert tar.getnames() == ['n01440764.tar', 'n02100735.tar', 'n02119789.tar']
    with tarfile.open(downloads / TARS['val']) as tar:
        assert tar.getnames()[0] == 'ILSVRC2012_val_00000001.JPEG'
    devkit = DevKit(downloads / DEVKIT)
    assert devkit.train_counts == miniatures.WNIDS
    assert devkit.val_names() == sorted(IMAGES['val'], key=lambda name: name.split('/')[1])
