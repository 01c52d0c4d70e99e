# Copyright (c) MMMixPro contributors.
"""Broken and incomplete downloads and folders of ImageNet: a clear error, nothing half-written."""

import io
import sys

import miniatures
import pytest
from PIL import Image

from mmmixpro.datasets.preparation import common
from mmmixpro.datasets.preparation.imagenet import STORES, check_split, prepare_imagenet
from mmmixpro.datasets.preparation.imagenet_sources import DEVKIT, TARS, DevKit

IMAGES = dict(train=miniatures.train_images(), val=miniatures.val_images())
LAYOUTS = sorted(STORES)


class TestBroken:
    @pytest.mark.parametrize('name', [TARS['train'], TARS['val'], DEVKIT])
    def test_missing_download(self, name, downloads, out, visible):
        (downloads / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf'(?s)Expected .*{name.split("_")[1]}.*found only'):
            prepare_imagenet(downloads, out)
        assert visible() == []

    def test_missing_source(self, tmp_path, out):
        with pytest.raises(FileNotFoundError, match=r"/nowhere/train', a folder.*img_train.tar.*found only"):
            prepare_imagenet(tmp_path / 'nowhere', out)

    @pytest.mark.parametrize('name', [TARS['train'], TARS['val'], DEVKIT])
    def test_wrong_hash(self, name, downloads, out, visible):
        path = downloads / name
        whole = path.read_bytes()
        path.write_bytes(whole + b'\0')
        for _ in range(2):  # what has been noted does not hide it
            with pytest.raises(
                ValueError, match=rf'{name}.*not the published file: expected the MD5 sum [0-9a-f]{{32}}'
            ):
                prepare_imagenet(downloads, out)
        assert visible() == []
        path.write_bytes(whole)
        prepare_imagenet(downloads, out)

    @pytest.mark.parametrize('layout', LAYOUTS)
    @pytest.mark.parametrize('split', ['train', 'val'])
    def test_truncated_archive_then_a_whole_one(self, layout, split, downloads, out, content, visible):
        path = downloads / TARS[split]
        whole = path.read_bytes()
        # Within an image, within a header, and where nothing but the number of images tells.
        for size in (len(whole) // 2, len(whole) // 1024 * 512 + 100, whole.rindex(b'.JPEG') // 512 * 512):
            path.write_bytes(whole[:size])
            with pytest.raises(
                ValueError, match=rf'(?s){TARS[split]}.*(cut short|found \d+).*Download .*run the same command again'
            ):
                prepare_imagenet(downloads, out, layout, splits=(split,), md5=False)
            assert visible() == []
        path.write_bytes(whole)
        prepare_imagenet(downloads, out, layout, splits=(split,))
        assert content(split, layout) == IMAGES[split]

    @pytest.mark.parametrize(
        'files',
        [
            {'n01440764/x.JPEG': b'1'},
            {'n01440764.tar': miniatures.tar({'../../x.JPEG': b'1'})},
            {'n01440764.tar': b'no archive' * 100},
            {'.tar': miniatures.tar({'x.JPEG': b'1'})},
        ],
    )
    def test_archive_of_something_else(self, files, downloads, tmp_path, out, visible):
        (downloads / TARS['train']).write_bytes(miniatures.tar(files))
        with pytest.raises(ValueError, match=r'img_train.tar'):
            prepare_imagenet(downloads, out, official=False)
        assert visible() == []
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

    def test_empty_file_in_a_folder(self, downloads, tmp_path, out, content):
        for split, images in IMAGES.items():
            miniatures.write_folders(tmp_path / 'source' / split, images)
        path = tmp_path / 'source/train/n01440764/n01440764_2.JPEG'
        path.write_bytes(b'')
        with pytest.raises(ValueError, match="n01440764_2.JPEG' is empty. Copy it again"):
            prepare_imagenet(tmp_path / 'source', out, 'zip')
        path.write_bytes(IMAGES['train']['n01440764/n01440764_2.JPEG'])
        prepare_imagenet(tmp_path / 'source', out, 'zip')
        assert content('train', 'zip') == IMAGES['train']


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
