# Copyright (c) MMMixPro contributors.
"""What one run leaves, the next one does not take for something else: sources that are broken, mended or exchanged."""

import os

import miniatures
import pytest

from mmmixpro.datasets.preparation.imagenet import STORES, prepare_imagenet
from mmmixpro.datasets.preparation.imagenet_sources import DEVKIT, TARS, find_source

TRAIN, VAL = miniatures.train_images(), miniatures.val_images()
LAYOUTS = sorted(STORES)
BROKEN = 'n02100735/n02100735_2.JPEG'


def write_source(kind, root, images):
    """Training images as the official archive or as folders."""
    if kind == 'folders':
        miniatures.write_folders(root / 'train', images)
        return
    root.mkdir(exist_ok=True)
    files = {}
    for name, data in images.items():
        files.setdefault(name.split('/')[0], {})[name.split('/')[1]] = data
    (root / TARS['train']).write_bytes(
        miniatures.tar({f'{wnid}.tar': miniatures.tar(inside) for wnid, inside in files.items()})
    )


@pytest.fixture
def source(tmp_path, downloads):
    """Where sources are written; the miniature is published."""
    return tmp_path / 'source'


@pytest.fixture
def prepare(source, out):
    def prepare(layout, folder=source, split='train', **kwargs):
        return prepare_imagenet(folder, out, layout, (split,), md5=False, **kwargs)

    return prepare


@pytest.fixture
def stop(monkeypatch, prepare):
    """A run that is stopped before it writes a number of images."""

    def stop(layout, num, **kwargs):
        written = []

        def until(self, name, data, write=STORES[layout].write):
            if len(written) == num:
                raise KeyboardInterrupt
            written.append(name)
            write(self, name, data)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(STORES[layout], 'write', until)
            prepare(layout, **kwargs)

    return stop


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('kind', ['archive', 'folders'])
def test_truncated_image_is_mended_and_the_same_command_run_again(
    kind, layout, source, out, prepare, content, visible, monkeypatch
):
    write_source(kind, source, {**TRAIN, BROKEN: TRAIN[BROKEN][:-40]})
    with pytest.raises(ValueError, match=rf'broken images \(1\): {BROKEN} .*\n.*run the same command again'):
        prepare(layout)
    assert visible() == []
    with monkeypatch.context() as patch, pytest.raises(ValueError, match='broken images'):
        patch.setattr(STORES[layout], 'write', None)  # nothing has changed
        prepare(layout)
    write_source(kind, source, TRAIN)
    prepare(layout)
    assert content('train', layout) == TRAIN
    assert not list(out.glob('.*train*'))


@pytest.mark.parametrize('layout', LAYOUTS)
def test_truncated_validation_image_without_folder(layout, source, downloads, out, content, visible):
    images = {name.split('/')[1]: data for name, data in VAL.items()}
    miniatures.write_folders(source / 'val', images)
    (source / DEVKIT).write_bytes((downloads / DEVKIT).read_bytes())
    path = source / 'val/ILSVRC2012_val_00000003.JPEG'
    path.write_bytes(images[path.name][:-40])
    with pytest.raises(ValueError, match=r'broken images \(1\): n02100735/ILSVRC2012_val_00000003.JPEG'):
        prepare_imagenet(source, out, layout, ('val',))
    assert visible() == []
    path.write_bytes(images[path.name])
    prepare_imagenet(source, out, layout, ('val',))
    assert content('val', layout) == VAL


# Folders of classes are not written to folders but linked to.
PAIRS = [
    (kind, layout) for kind in ('archive', 'folders') for layout in LAYOUTS if (kind, layout) != ('folders', 'folder')
]


@pytest.mark.parametrize(('kind', 'layout'), PAIRS)
class TestAnotherSource:
    # Of equal names, other contents of equal length; and a class that is not of ImageNet.
    WRONG = {name: bytes(reversed(data)) for name, data in TRAIN.items()} | {'n00000001/cat.JPEG': miniatures.jpeg(50)}

    def test_elsewhere(self, kind, layout, source, tmp_path, prepare, stop, content):
        write_source(kind, tmp_path / 'wrong', self.WRONG)
        stop(layout, 5, folder=tmp_path / 'wrong')
        write_source(kind, source, TRAIN)
        with pytest.warns(UserWarning, match=r'begun anew: .*/wrong/.*/source/'):
            prepare(layout)
        assert content('train', layout) == TRAIN

    def test_at_the_same_place(self, kind, layout, source, prepare, stop, content):
        """Files of equal names and sizes; their times tell."""
        write_source(kind, source, {name: self.WRONG[name] for name in TRAIN})
        for path in source.rglob('*'):
            os.utime(path, (1, 1))
        stop(layout, 5)
        write_source(kind, source, TRAIN)
        with pytest.warns(UserWarning, match='begun anew'):
            prepare(layout)
        assert content('train', layout) == TRAIN

    def test_the_same_is_continued(self, kind, layout, source, prepare, stop, content, recwarn):
        write_source(kind, source, TRAIN)
        for _ in range(5):
            stop(layout, 2)
        prepare(layout)
        assert content('train', layout) == TRAIN
        assert not [warning for warning in recwarn if 'begun anew' in str(warning.message)]

    def test_images_of_no_source(self, kind, layout, source, out, prepare, visible):
        """Whatever has put them there."""
        write_source(kind, source, TRAIN)
        target = out / ('train' if layout == 'folder' else f'train.{layout}')
        store = STORES[layout](target, find_source(source, 'train').state())
        store.write('n00000001/cat.JPEG', miniatures.jpeg(50))
        store.close(done=False)
        with pytest.raises(
            ValueError, match=r'that the source has not \(1\): n00000001/cat.JPEG\n(?s:.*)remove .*partial'
        ):
            prepare(layout, official=False)
        assert visible() == []


def test_another_development_kit(downloads, prepare, stop, monkeypatch, content):
    """Which says in what folder a validation image is."""
    whole = (downloads / DEVKIT).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(miniatures, 'TRUTH', miniatures.TRUTH[::-1])
        (downloads / DEVKIT).write_bytes(miniatures.devkit())
    stop('zip', 4, folder=downloads, split='val')
    (downloads / DEVKIT).write_bytes(whole)
    with pytest.warns(UserWarning, match='begun anew'):
        prepare('zip', folder=downloads, split='val')
    assert content('val', 'zip') == VAL


def test_wrong_folder_is_not_linked_to(source, out, prepare, visible):
    write_source('folders', source, {name: data for name, data in TRAIN.items() if name != BROKEN})
    with pytest.raises(ValueError, match=r"(?s)/source/train' is not .*expected 12, found 11.*Mend the folder"):
        prepare('folder')
    assert visible() == []
    write_source('folders', source, TRAIN)
    prepare('folder')
    assert (out / 'train').resolve() == source / 'train'
