# Copyright (c) MMMixPro contributors.
"""Archives are written whole or not at all, continued, and read as the folders that they stand for."""

import multiprocessing
import os
import pickle
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from mmengine import fileio
from mmengine.fileio import get_file_backend

from mmmixpro.datasets.archives import FolderStore, LmdbArchive, LmdbStore, ZipArchive, ZipStore, lmdb_archive, put

FILES = {f'n{c}/n{c}_{i}.JPEG': os.urandom(50 * i) for c in (2, 10, 1) for i in range(4)}
STORES = dict(folder=FolderStore, zip=ZipStore, lmdb=LmdbStore)


@pytest.fixture(params=['zip', 'lmdb'])
def archive(request, tmp_path):
    """The address of an archive of the files."""
    write(STORES[request.param](tmp_path / f'train.{request.param}'))
    return f'{request.param}://{tmp_path}/train'


def write(store, files=FILES):
    with store:
        for name, content in files.items():
            if name not in store:
                store.write(name, content)
    return store.target


def read_all(backend, root):
    return {
        name: backend.get(f'{root}/{name}') for name in backend.list_dir_or_file(root, list_dir=False, recursive=True)
    }


def listing(backend, root, **kwargs):
    return sorted(backend.list_dir_or_file(root, **kwargs))


def test_read_as_the_folder(archive, tmp_path):
    folder = str(write(FolderStore(tmp_path / 'train')))
    ours, local = get_file_backend(archive), get_file_backend(folder)
    assert read_all(ours, archive) == FILES == read_all(local, folder)
    for inside in ('', '/n1', '/n1/', '/n10'):
        for kwargs in (
            dict(),
            dict(list_dir=False),
            dict(list_file=False),
            dict(recursive=True),
            dict(list_dir=False, suffix='3.JPEG', recursive=True),
        ):
            assert listing(ours, archive + inside, **kwargs) == listing(local, folder + inside, **kwargs)
    for name in ('', 'n1', 'n', 'n10', 'n1/n1_0.JPEG', 'n1/n1_0.JPE', 'n1/x', 'n3'):
        for what in ('exists', 'isfile', 'isdir'):
            assert getattr(ours, what)(f'{archive}/{name}') == getattr(local, what)(f'{folder}/{name}'), (what, name)
    assert fileio.get(f'{archive}/n10/n10_3.JPEG') == FILES['n10/n10_3.JPEG']


def test_text_and_home(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    write(ZipStore(tmp_path / 'meta.zip'), {'train.txt': 'ä 1'.encode()})
    assert fileio.get_text('zip://~/meta/train.txt') == 'ä 1'


def test_folder_that_holds_archives_is_there(archive, tmp_path):
    scheme = archive.partition(':')[0]
    assert fileio.exists(f'{scheme}://{tmp_path}')
    assert not fileio.exists(f'{scheme}://{tmp_path}/val')
    assert not fileio.exists(f'{scheme}://{tmp_path}/meta/train.txt')
    (tmp_path / 'empty').mkdir()
    assert not fileio.exists(f'{scheme}://{tmp_path}/empty')


def test_missing_archive_and_missing_file(archive, tmp_path):
    scheme = archive.partition(':')[0]
    backend = get_file_backend(archive)
    with pytest.raises(
        FileNotFoundError, match=rf"val\.{scheme}' to read.*found beside it: train.{scheme}.*imagenet.py"
    ):
        backend.get(f'{scheme}://{tmp_path}/val/n1/x.JPEG')
    with pytest.raises(FileNotFoundError, match=rf"/nowhere\.{scheme}' to read"):
        list(backend.list_dir_or_file(f'{scheme}://{tmp_path}/nowhere/train'))
    with pytest.raises(FileNotFoundError, match="has 12 files, none of them 'n1/n1_9.JPEG'"):
        backend.get(f'{archive}/n1/n1_9.JPEG')


def _read_in_worker(archive):
    return read_all(get_file_backend(archive, enable_singleton=True), archive)


@pytest.mark.parametrize('warm', [False, True], ids=['opened in the workers', 'opened before them'])
def test_workers_read_at_once(archive, warm):
    """The parent's handle is not used by its children, which read different files at the same time."""
    if warm:
        fileio.get(f'{archive}/n1/n1_1.JPEG')
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context('fork')) as pool:
        assert all(found == FILES for found in pool.map(_read_in_worker, [archive] * 40))
    assert fileio.get(f'{archive}/n1/n1_1.JPEG') == FILES['n1/n1_1.JPEG']


def test_each_process_has_its_own_handle(archive):
    backend = get_file_backend(archive)
    backend.get(f'{archive}/n1/n1_1.JPEG')
    (opened,) = backend.archives.values()
    handle = 'file' if isinstance(opened, ZipArchive) else 'env'
    before = getattr(opened, handle)
    backend.get(f'{archive}/n1/n1_2.JPEG')
    assert getattr(opened, handle) is before
    child, parent = os.pipe()
    if (pid := os.fork()) == 0:
        backend.get(f'{archive}/n1/n1_2.JPEG')
        os.write(parent, pickle.dumps(getattr(opened, handle) is not before))
        os._exit(0)
    os.waitpid(pid, 0)
    assert pickle.loads(os.read(child, 100))


@pytest.mark.parametrize('kind', STORES)
class TestStore:
    def test_absent_until_whole_then_refused(self, kind, tmp_path):
        target = tmp_path / f'train.{kind}'
        with pytest.raises(KeyboardInterrupt), STORES[kind](target) as store:
            store.write('a/1', b'1')
            raise KeyboardInterrupt
        assert not target.exists()
        assert [path.name for path in tmp_path.iterdir()] == [f'.train.{kind}.partial']
        write(STORES[kind](target))
        assert [path.name for path in tmp_path.iterdir()] == [f'train.{kind}']
        with pytest.raises(FileExistsError, match='found it written'):
            STORES[kind](target)

    def test_what_was_made_of_something_else_is_not_continued(self, kind, tmp_path):
        target = tmp_path / f'train.{kind}'

        def stopped(source, *names):
            with pytest.raises(KeyboardInterrupt), STORES[kind](target, source) as store:
                for name in names:
                    store.write(name, name.encode())
                raise KeyboardInterrupt

        stopped(dict(path='one'), 'a/1', 'a/2')
        stopped(dict(path='one'))
        for source in (dict(path='other'), None, dict(path='one')):
            with pytest.warns(UserWarning, match='begun anew: .* was made of .*, this run is given '):
                stopped(source, 'b/1')
            store = STORES[kind](target, source)
            assert store.names() == ['b/1'] and store.read('b/1') == b'b/1'
            store.close(done=False)
        write(STORES[kind](target, source), {'b/1': b'', 'b/2': b''})
        assert [path.name for path in tmp_path.iterdir()] == [f'train.{kind}']

    def test_reads_what_was_written_before_and_now(self, kind, tmp_path):
        first, second = dict(list(FILES.items())[:5]), dict(list(FILES.items())[5:])
        with pytest.raises(KeyboardInterrupt), STORES[kind](tmp_path / 'train') as store:
            for name, content in first.items():
                store.write(name, content)
            raise KeyboardInterrupt
        with STORES[kind](tmp_path / 'train') as store:
            for name, content in second.items():
                assert store.names().count(name) == 0
                store.write(name, content)
                assert store.read(name) == content
            assert {name: store.read(name) for name in store.names()} == FILES

    def test_killed_run_goes_on(self, kind, monkeypatch, tmp_path):
        """By kill -9 after each number of files; what was written is not written again."""
        monkeypatch.setattr(lmdb_archive, 'COMMIT_EVERY', 1)
        whole = write(STORES[kind](tmp_path / 'whole'))
        for num in range(len(FILES) + 1):
            target = tmp_path / f'{num}'
            if (pid := os.fork()) == 0:
                store = STORES[kind](target)
                for name, content in list(FILES.items())[:num]:
                    store.write(name, content)
                if kind == 'zip':
                    store.file.flush()  # what the kill may or may not leave
                os.kill(os.getpid(), signal.SIGKILL)
            assert os.waitpid(pid, 0)[1] == signal.SIGKILL
            assert not target.exists()
            store = STORES[kind](target)
            assert [name for name in FILES if name in store] == list(FILES)[:num]
            write(store)
            if kind == 'lmdb':
                # Where in the file things stand is LMDB's.
                archive = LmdbArchive(str(target))
                assert {name.decode(): archive.read(name.decode()) for name in archive.names} == FILES
            elif whole.is_file():
                assert target.read_bytes() == whole.read_bytes()
            else:
                assert {str(p.relative_to(target)) for p in target.rglob('*')} == {
                    str(p.relative_to(whole)) for p in whole.rglob('*')
                }


@pytest.mark.parametrize('fsync', [True, False])
def test_put_leaves_the_old_file_or_the_new_one(fsync, monkeypatch, tmp_path):
    synced = []
    monkeypatch.setattr(os, 'fsync', synced.append)
    put(b'old', tmp_path / 'x', fsync)
    assert len(synced) == fsync
    write_bytes = Path.write_bytes

    def full(path, content):
        write_bytes(path, content[:1])
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(OSError, match='No space left'):
        put(b'new', tmp_path / 'x', fsync)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {'x': b'old'}
    with pytest.raises(OSError, match='No space left'), FolderStore(tmp_path / 'train') as store:
        store.write('n1/x', b'new')
    assert not [path for path in tmp_path.rglob('*') if path.is_file() and path.name != 'x']


def test_file_half_written_is_written_again(tmp_path):
    def half(path, content):
        with path.open('wb') as file:
            file.write(content[:50])
        os.kill(os.getpid(), signal.SIGKILL)

    if (pid := os.fork()) == 0:
        Path.write_bytes = half
        FolderStore(tmp_path / 'train').write('n1/x', b'1' * 100)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    write(FolderStore(tmp_path / 'train'), {'n1/x': b'1' * 100})
    assert [path.read_bytes() for path in (tmp_path / 'train/n1').iterdir()] == [b'1' * 100]


def test_no_lmdb_file(tmp_path):
    (tmp_path / 'train.lmdb').write_bytes(b'something else' * 1000)
    with pytest.raises(ValueError, match='no whole LMDB file'):
        LmdbArchive(str(tmp_path / 'train.lmdb'))


def test_lmdb_file_written_anew(tmp_path):
    """By the process that has read it: what is read then is in the new file."""
    target = tmp_path / 'train.lmdb'
    old = LmdbArchive(str(write(LmdbStore(target), {'a/1': b'old'})))
    assert old.read('a/1') == b'old'
    target.unlink()
    new = LmdbArchive(str(write(LmdbStore(target), {'a/1': b'new'})))
    assert new.read('a/1') == old.read('a/1') == b'new'


def test_lmdb_grows(monkeypatch, tmp_path):
    monkeypatch.setattr(lmdb_archive, 'FIRST_SIZE', 1 << 16)
    files = {f'a/{i}': os.urandom(20000) for i in range(30)}
    archive = LmdbArchive(str(write(LmdbStore(tmp_path / 'train.lmdb'), files)))
    assert {name: archive.read(name) for name in files} == files


def test_lmdb_is_optional(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'lmdb', None)
    (tmp_path / 'train.lmdb').touch()
    for use in (LmdbStore.require, lambda: LmdbStore(tmp_path / 'x'), lambda: fileio.get(f'lmdb://{tmp_path}/train/a')):
        with pytest.raises(ImportError, match=r'pip install lmdb.*--format zip, and zip://'):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ['train.lmdb']
