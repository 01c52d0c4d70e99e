# Copyright (c) MMMixPro contributors.
"""Zip archives: continued wherever they were cut, as others write them, and damaged."""

import os
import struct
import zipfile

import numpy as np
import pytest
from mmengine.fileio import get_file_backend

from mmmixpro.datasets.archives import ZipArchive, ZipStore

FILES = {f'n{c}/n{c}_{i}.JPEG': os.urandom(50 * i) for c in (2, 10, 1) for i in range(4)}


def write(store, files=FILES):
    with store:
        for name, content in files.items():
            if name not in store:
                store.write(name, content)
    return store.target


def test_zip_cut_anywhere_goes_on(tmp_path):
    """Whatever of the file reached the disk, also half a header, the rest is written as if nothing had happened."""
    whole = write(ZipStore(tmp_path / 'whole.zip')).read_bytes()
    partial = tmp_path / '.train.zip.partial'
    with zipfile.ZipFile(tmp_path / 'whole.zip') as file:
        ends = file.start_dir, [info.header_offset for info in file.infolist()]
    kept = set()
    for size in range(0, ends[0] + 60, 7):
        partial.write_bytes(whole[:size])
        store = ZipStore(tmp_path / 'train.zip')
        kept.add(len(store.zip.filelist))
        write(store)
        assert store.target.read_bytes() == whole
        store.target.unlink()
    assert kept == set(range(len(FILES) + 1))


@pytest.mark.parametrize('crc', [0, 12345])
def test_zip_member_that_was_being_written(crc, tmp_path):
    """Its header has no size or checksum yet, or a checksum that its content has not."""
    whole = write(ZipStore(tmp_path / 'whole.zip')).read_bytes()
    with zipfile.ZipFile(tmp_path / 'whole.zip') as file:
        last = file.infolist()[-1]
        end = file.start_dir
    broken = bytearray(whole[:end])
    struct.pack_into('<II', broken, last.header_offset + 14, crc, 0 if crc == 0 else last.file_size)
    (tmp_path / '.train.zip.partial').write_bytes(broken)
    store = ZipStore(tmp_path / 'train.zip')
    assert last.filename not in store and len(store.zip.filelist) == len(FILES) - 1
    assert write(store).read_bytes() == whole


def test_zip_is_one_for_others_too(tmp_path):
    with zipfile.ZipFile(write(ZipStore(tmp_path / 'train.zip'))) as file:
        assert file.testzip() is None
        assert {info.filename: file.read(info) for info in file.infolist()} == FILES
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}


def test_zip_of_others(tmp_path):
    """With folders as members, extra fields, and members in any order."""
    with zipfile.ZipFile(tmp_path / 'train.zip', 'w') as file:
        file.writestr('n1/', b'')
        for name, content in FILES.items():
            info = zipfile.ZipInfo(name)
            info.extra = struct.pack('<HH4s', 0x7875, 4, b'abcd')
            file.writestr(info, content)
    root = f'zip://{tmp_path}/train'
    backend = get_file_backend(root)
    names = backend.list_dir_or_file(root, list_dir=False, recursive=True)
    assert {name: backend.get(f'{root}/{name}') for name in names} == FILES


def test_zip_with_compression_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / 'train.zip', 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr('a/1', b'1' * 100)
    with pytest.raises(ValueError, match=r"without compression.*found 'a/1' compressed.*zip -0"):
        ZipArchive(str(tmp_path / 'train.zip'))


def test_damaged_zip(tmp_path):
    path = write(ZipStore(tmp_path / 'train.zip'))
    content = bytearray(path.read_bytes())
    at = content.index(FILES['n10/n10_3.JPEG'])
    content[at] ^= 1
    path.write_bytes(content)
    archive = ZipArchive(str(path))
    assert archive.read('n10/n10_2.JPEG') == FILES['n10/n10_2.JPEG']
    with pytest.raises(ValueError, match=r"'n10/n10_3.JPEG' in .* is damaged: its checksum"):
        archive.read('n10/n10_3.JPEG')
    path.write_bytes(content[:-200])
    with pytest.raises(ValueError, match='no whole zip archive'):
        ZipArchive(str(path))


def test_names_are_kept_small(tmp_path):
    """What workers share: 60 bytes an image or so."""
    files = {f'n{i // 100:08d}/n{i // 100:08d}_{i}.JPEG': b'x' for i in range(1000)}
    archive = ZipArchive(str(write(ZipStore(tmp_path / 'train.zip'), files)))
    arrays = [value for value in vars(archive).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) < 60 * len(files)
