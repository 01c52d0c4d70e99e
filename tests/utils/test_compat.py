# Copyright (c) MMMixPro contributors.
import importlib
import subprocess
import sys
import types

import pytest

import mmmixpro
from mmmixpro.utils.compat import HOSTS, require


def fake(monkeypatch, name, version):
    module = types.ModuleType(name)
    module.__version__ = version
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize(
    'name, version',
    [
        ('torch', '2.11.0+cu130'),
        ('torch', '2.1.0'),
        ('mmengine', '0.10.12'),
        ('mmengine', '0.10.7'),
        ('mmcv', '2.3.6'),
        ('mmcv', '2.1.0'),
        ('mmpretrain', '1.3.6'),
        ('mmpretrain', '1.2.0'),
        ('mmseg', '1.2.2'),
        ('mmdet', '3.3.0'),
    ],
)
def test_forks_and_upstream_are_accepted(monkeypatch, name, version):
    fake(monkeypatch, name, version)
    require(name)


@pytest.mark.parametrize(
    'name, version',
    [
        ('torch', '1.13.1+cu117'),
        ('mmengine', '0.10.6'),
        ('mmengine', '1.0.0'),
        ('mmcv', '1.7.2'),
        ('mmcv', '2.4.0'),
        ('mmpretrain', '1.1.1'),
        ('mmpretrain', '2.0.0'),
        ('mmseg', '0.30.0'),
        ('mmdet', '2.28.2'),
    ],
)
def test_unsupported_version_names_expected_found_and_mend(monkeypatch, name, version):
    fake(monkeypatch, name, version)
    with pytest.raises(ImportError) as error:
        require(name)
    message = str(error.value)
    assert '\n' not in message
    assert f'{name} {HOSTS[name].supported}' in message
    assert f'found {version}' in message
    assert f'pip install {HOSTS[name].install}' in message


@pytest.mark.parametrize('name', HOSTS)
def test_missing_names_expected_and_mend(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf'{name} .*found none: pip install {HOSTS[name].install}'):
        require(name)


def test_host_that_lacks_something_itself(monkeypatch, tmp_path):
    # onedl-mmpretrain pulls an empty `modelindex`; what it imports is in the package `model-index`.
    (tmp_path / 'mmpretrain.py').write_text('import modelindex_without_content')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mmpretrain', raising=False)
    with pytest.raises(ImportError, match=r"lacks 'modelindex_without_content': pip install .*model-index"):
        require('mmpretrain')


def test_host_that_refuses_another_host(monkeypatch, tmp_path):
    (tmp_path / 'mmdet.py').write_text('assert False, "MMCV==2.3.6 is used but incompatible."')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mmdet', raising=False)
    with pytest.raises(ImportError, match=r'mmdet .*found one that fails: MMCV==2.3.6 is used but'):
        require('mmdet')


@pytest.mark.parametrize('name', ['torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain'])
def test_import_mmmixpro_without_a_host(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f'MMMixPro needs {name} .*found none') as error:
        importlib.reload(mmmixpro)
    assert error.value.__cause__ is None and error.value.__suppress_context__  # one error, not a chain of them


def test_import_mmmixpro_needs_neither_mmseg_nor_mmdet():
    code = "import sys; sys.modules['mmseg'] = sys.modules['mmdet'] = None; import mmmixpro"
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)
