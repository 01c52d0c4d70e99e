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


REQUIREMENTS = ROOT / 'requirements'
# The locks, what each is made of, and the stack of what we tell users to install.
LOCKS = dict(
    lock=(['stack.in'], 'fork'), lowest=(['stack.in', 'lowest.in'], 'fork'), upstream=(['upstream.in'], 'upstream')
)


@pytest.fixture
def lock():
    return (REQUIREMENTS / 'lock.txt').read_text().splitlines()


@pytest.mark.parametrize('name', LOCKS)
def test_locks_have_exact_pins_and_no_addresses(name):
    for line in (REQUIREMENTS / f'{name}.txt').read_text().splitlines():
        requirement = Requirement(line)  # refuses options such as an index
        assert requirement.url is None
        assert [specifier.operator for specifier in requirement.specifier] == ['==']


def wanted(file):
    """The requirements of a file and of those that it names."""
    for line in (REQUIREMENTS / file).read_text().splitlines():
        if line.startswith('-r '):
            yield from wanted(line.removeprefix('-r '))
        elif line and not line.startswith('#'):
            yield Requirement(line)


@pytest.mark.parametrize('name', LOCKS)
def test_locks_have_what_we_ask_for(name):
    pins = {}
    for line in (REQUIREMENTS / f'{name}.txt').read_text().splitlines():
        pins.setdefault(Requirement(line).name, []).append(Requirement(line))
    files, _ = LOCKS[name]
    asked = {requirement.name: requirement for file in files for requirement in wanted(file)}  # later ones override
    assert asked
    for package, requirement in asked.items():
        assert all(requirement.specifier.contains(next(iter(pin.specifier)).version) for pin in pins[package])
    # That one needs libGL, and owns the same folder as the headless one.
    assert 'opencv-python' not in pins
    assert 'uv' in pins  # tools/setup/install.sh installs it first


@pytest.mark.parametrize('name', ['lock', 'upstream'])
def test_what_we_tell_users_to_install_is_what_is_tested(name):
    pins = {
        Requirement(line).name: Requirement(line) for line in (REQUIREMENTS / f'{name}.txt').read_text().splitlines()
    }
    _, stack = LOCKS[name]
    for module, host in HOSTS.items():
        pinned = getattr(host, stack).split()[0]
        if (stack, module) != ('upstream', 'mmdet'):  # detection is tested with the forks alone
            assert str(pins[Requirement(pinned).name]) == pinned


def test_oldest_torch_is_the_lowest_supported():
    pins = [Requirement(line) for line in (REQUIREMENTS / 'lowest.txt').read_text().splitlines()]
    for name in ('torch', 'torchvision'):
        (found,) = [next(iter(pin.specifier)).version for pin in pins if pin.name == name]
        (lowest,) = [specifier.version for specifier in HOSTS[name].supported if specifier.operator == '>=']
        assert found.startswith(f'{lowest}.')


def test_wheel_has_the_command(site):
    (path,) = site.glob('mmmixpro-*.dist-info/entry_points.txt')
    assert 'mmmixpro = mmmixpro.doctor:command' in path.read_text()


def test_lock_lies_within_the_extras(lock, metadata):
    pins = [Requirement(line) for line in lock]
    extras = [Requirement(line) for line in metadata.get_all('Requires-Dist')]
    ours = {r.name: r for r in extras if HOST_PACKAGES.match(r.name)}
    versions = {r.name: next(iter(r.specifier)).version for r in pins if r.name in ours}
    assert versions.keys() == ours.keys()
    assert all(ours[name].specifier.contains(version) for name, version in versions.items())
