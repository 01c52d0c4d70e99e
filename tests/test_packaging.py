# Copyright (c) MMMixPro contributors.
import email
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mmmixpro
from mmmixpro.utils.compat import HOSTS

ROOT = Path(__file__).resolve().parents[1]
LEAF = 'mixpro/deit-s_8xb128_in1k.py'
PACKAGED = ['LICENSE', 'MANIFEST.in', 'README.md', 'model-index.yml', 'pyproject.toml', 'setup.py']
FOLDERS = ['configs', 'mmmixpro', 'tools']
HOST_PACKAGES = re.compile(r'(onedl-)?mm(cv|engine|pretrain|cls|seg|det)|torch')


def build(kind, source, target):
    code = f'import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))'
    run = subprocess.run([sys.executable, '-c', code, target], cwd=source, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return target / run.stdout.splitlines()[-1]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel of the source distribution of this checkout, the way from here to a user."""
    tmp = tmp_path_factory.mktemp('packaging')
    source = tmp / 'source'
    source.mkdir()
    for name in PACKAGED:
        shutil.copy2(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, symlinks=True)
    with tarfile.open(build('sdist', source, tmp)) as sdist:
        sdist.extractall(tmp / 'unpacked')
    (unpacked,) = (tmp / 'unpacked').iterdir()
    return build('wheel', unpacked, tmp)


@pytest.fixture(scope='module')
def site(wheel, tmp_path_factory):
    """A folder into which the wheel is installed."""
    site = tmp_path_factory.mktemp('site')
    zipfile.ZipFile(wheel).extractall(site)
    return site


@pytest.fixture
def metadata(site):
    (path,) = site.glob('mmmixpro-*.dist-info/METADATA')
    return email.message_from_string(path.read_text())


def files_below(folder):
    paths = (path.relative_to(folder) for path in folder.rglob('*') if path.is_file())
    return {str(path) for path in paths if '__pycache__' not in path.parts}


@pytest.mark.parametrize('folder', ['configs', 'tools'])
def test_wheel_ships_configs_and_tools(site, folder):
    shipped = site / 'mmmixpro' / '.mim' / folder
    assert files_below(shipped) == files_below(ROOT / folder)
    assert not list(shipped.rglob('__pycache__'))


def test_wheel_ships_model_index_and_the_package(site):
    assert (site / 'mmmixpro/.mim/model-index.yml').read_text() == (ROOT / 'model-index.yml').read_text()
    ours = {name for name in files_below(ROOT / 'mmmixpro') if not name.startswith('.mim')}  # templates too
    assert ours == {name for name in files_below(site / 'mmmixpro') if not name.startswith('.mim')}
    assert [path.name for path in site.iterdir() if path.suffix != '.dist-info'] == ['mmmixpro']


def test_installing_leaves_host_libraries_alone(metadata):
    requirements = [Requirement(line) for line in metadata.get_all('Requires-Dist')]
    hard = [r.name for r in requirements if r.marker is None or r.marker.evaluate({'extra': ''})]
    assert hard
    assert not [name for name in hard if HOST_PACKAGES.match(name)]
    extras = {'classification', 'segmentation', 'detection', 'puzzlemix', 'data', 'robustness', 'all', 'docs', 'dev'}
    assert set(metadata.get_all('Provides-Extra')) == extras
    extra = [r.name for r in requirements if r.marker and r.marker.evaluate({'extra': 'classification'})]
    assert {'torch', 'onedl-mmcv', 'onedl-mmengine', 'onedl-mmpretrain'} <= set(extra)
    assert metadata['Version'] == mmmixpro.__version__
    assert metadata['Requires-Python'] == '>=3.10'


CHILD = """
import json, os, sys
import mmmixpro
from mmengine.config import Config

cfg = Config.fromfile(sys.argv[1])
print(json.dumps([os.path.dirname(mmmixpro.__file__), cfg.model.type, cfg.model.head.num_classes]))
"""


@pytest.mark.parametrize('where', ['wheel', 'checkout'])
def test_user_config_inherits_ours(site, tmp_path, where):
    path = {'wheel': site, 'checkout': ROOT}[where]
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = 'mmmixpro::{LEAF}'\nmodel = dict(head=dict(num_classes=3))\n")
    command = [sys.executable, '-W', 'ignore', '-c', CHILD, child]
    environment = {'PYTHONPATH': str(path), 'PATH': ''}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == [str(path / 'mmmixpro'), 'PALClassifier', 3]


@pytest.fixture
def lock():
    return (ROOT / 'requirements/lock.txt').read_text().splitlines()


def test_lock_has_exact_pins_and_no_addresses(lock):
    for line in lock:
        requirement = Requirement(line)  # refuses options such as an index
        assert requirement.url is None
        assert [specifier.operator for specifier in requirement.specifier] == ['==']


def test_lock_has_what_we_ask_for(lock):
    pins = {Requirement(line).name: Requirement(line) for line in lock}
    wanted = (ROOT / 'requirements/stack.in').read_text().splitlines()
    assert all(Requirement(line).name in pins for line in wanted if line and not line.startswith('#'))
    # That one needs libGL, and owns the same folder as the headless one.
    assert 'opencv-python' not in pins
    # What we tell users to install is what is tested.
    for host in HOSTS.values():
        pinned = host.install.split()[0]
        assert str(pins[Requirement(pinned).name]) == pinned


def test_lock_lies_within_the_extras(lock, metadata):
    pins = [Requirement(line) for line in lock]
    extras = [Requirement(line) for line in metadata.get_all('Requires-Dist')]
    ours = {r.name: r for r in extras if HOST_PACKAGES.match(r.name)}
    versions = {r.name: next(iter(r.specifier)).version for r in pins if r.name in ours}
    assert versions.keys() == ours.keys()
    assert all(ours[name].specifier.contains(version) for name, version in versions.items())
