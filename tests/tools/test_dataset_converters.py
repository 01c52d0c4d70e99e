# Copyright (c) MMMixPro contributors.
"""The converters as commands, on miniatures; what they write in detail is tested in tests/datasets/preparation."""

import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import miniatures
import pytest
from mmengine.fileio import get_file_backend

TOOLS = Path(__file__).resolve().parents[2] / 'tools/dataset_converters'


@pytest.fixture
def run(monkeypatch, capsys):
    """What a converter prints, within this process, which is faster."""

    def run(name, *args):
        path = str(TOOLS / f'{name}.py')
        monkeypatch.setattr(sys, 'argv', [path, *map(str, args)])
        runpy.run_path(path, run_name='__main__')
        return capsys.readouterr()

    return run


@pytest.mark.parametrize('layout', ['folder', 'zip'])
def test_imagenet(layout, run, tmp_path, monkeypatch):
    miniatures.write_imagenet_downloads(tmp_path / 'downloads')
    miniatures.publish_imagenet(tmp_path / 'downloads', monkeypatch)
    args = (tmp_path / 'downloads', '--out', tmp_path / 'out', '--format', layout)
    first = run('imagenet', *args)
    assert first.out.splitlines()[0].endswith('out/train: 12 images of 3 classes; 12 decoded')
    for bar in ('MD5 of ILSVRC2012_img_train.tar', 'train to train', 'decoding images of val'):
        assert bar in first.err
    again = run('imagenet', *args, '--decode', 1, '--splits', 'val', 'val')
    assert again.out.endswith('out/val: 6 images of 3 classes; 1 decoded\n') and again.out.count('\n') == 1
    assert 'MD5' not in again.err and 'val to val' not in again.err


def test_imagenet_options(run, tmp_path):
    """Of a download that is none of the published ones."""
    miniatures.write_imagenet_downloads(tmp_path / 'downloads')
    args = (tmp_path / 'downloads', '--out', tmp_path / 'out')
    with pytest.raises(ValueError, match='expected the MD5 sum fa75699e90414af021442c21a62c3abf'):
        run('imagenet', *args)
    with pytest.raises(ValueError, match='expected 1281167, found 12'):
        run('imagenet', *args, '--no-md5')
    assert run('imagenet', *args, '--subset').out.count('3 classes') == 2


def test_pascal_context(run, tmp_path, monkeypatch):
    miniatures.write_voc2010(tmp_path / 'VOC2010', monkeypatch)
    (tmp_path / 'VOC2010/trainval_merged.json').rename(tmp_path / 'a.json')
    result = run('pascal_context', tmp_path / 'VOC2010', '--annotations', tmp_path / 'a.json', '--decode', 4)
    assert result.out.count(': 2 images; 2 decoded') == 2 and 'masks' in result.err


def test_coco(run, tmp_path, monkeypatch):
    miniatures.write_coco(tmp_path, monkeypatch)
    assert run('coco', tmp_path).out.count('2 images, 3 instances of 2 classes') == 2
    assert run('coco', tmp_path, '--splits', 'val', '--decode', 1).out.count('1 images decoded') == 1


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('imagenet', 'a part of ImageNet: skip the official counts and MD5 sums'),
        ('pascal_context', 'a part of Pascal Context: skip the official counts'),
        ('coco', 'a part of COCO: skip the official counts'),
    ],
)
def test_help_says_what_subset_does(name, words, capsys, run):
    with pytest.raises(SystemExit):
        run(name, '--help')
    assert f'accept {words}' in ' '.join(capsys.readouterr().out.split())


@pytest.mark.parametrize('name', ['pascal_context', 'coco'])
def test_published_counts_are_the_default(name, run, tmp_path, monkeypatch):
    write = dict(pascal_context=miniatures.write_voc2010, coco=miniatures.write_coco)[name]
    with pytest.MonkeyPatch.context() as patch:
        write(tmp_path, patch)
    with pytest.raises(
        ValueError, match='expected (4998|118287)'.replace('(', r'(?:').replace('expected', r'.*expected')
    ):
        run(name, tmp_path)
    assert run(name, tmp_path, '--subset').out.count('\n') == 2


@pytest.mark.parametrize(('layout', 'partial'), [('folder', '.train.partial'), ('zip', '.train.zip.partial')])
def test_killed_command_goes_on(layout, partial, run, tmp_path):
    """kill -9 from outside, wherever it hits."""
    source = tmp_path / 'source'
    images = {f'n{c:08d}/n{c:08d}_{i}.JPEG': bytes([c, i % 256]) * 10000 for c in range(4) for i in range(500)}
    miniatures.write_folders(source / 'train', images)
    classes = {}
    for name, data in images.items():
        classes.setdefault(name.split('/')[0], {})[name.split('/')[1]] = data
    (source / 'ILSVRC2012_img_train.tar').write_bytes(
        miniatures.tar({f'{wnid}.tar': miniatures.tar(files) for wnid, files in classes.items()})
    )
    args = [source, '--out', tmp_path / 'out', '--format', layout, '--splits', 'train', '--subset', '--decode', '0']
    process = subprocess.Popen([sys.executable, TOOLS / 'imagenet.py', *args], stderr=subprocess.PIPE)
    while not (tmp_path / 'out' / partial).exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / 'out' / partial).exists(), 'it was faster than the kill'
    assert '2000 images of 4 classes' in run('imagenet', *args).out
    root = str(tmp_path / 'out/train') if layout == 'folder' else f'zip://{tmp_path}/out/train'
    backend = get_file_backend(root)
    found = set(backend.list_dir_or_file(root, list_dir=False, recursive=True))
    assert found == images.keys()
    assert all(backend.get(f'{root}/{name}') == data for name, data in images.items())
