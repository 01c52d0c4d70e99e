# Copyright (c) MMMixPro contributors.
import importlib
import re
import subprocess
import sys
import types

import pytest

import mmmixpro
from mmmixpro.utils import compat
from mmmixpro.utils.compat import HOSTS, installation, require


def fake(monkeypatch, name, version):
    module = types.ModuleType(name)
    module.__version__ = version
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize(
    'name, version',
    [
        ('torch', '2.11.0+cu130'),
        ('torch', '2.4.1'),
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
        ('torch', '2.3.1+cu121'),
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
    assert installation(name) in message


@pytest.mark.parametrize('name', HOSTS)
def test_missing_names_expected_and_mend(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f'{name} .*found none: {re.escape(installation(name))}'):
        require(name)


@pytest.mark.parametrize(
    ('there', 'command'),
    [
        (dict(mmengine=['onedl-mmengine']), 'pip install onedl-mmcv==2.3.6'),
        (dict(mmengine=['mmengine']), 'pip install mmcv-lite==2.1.0'),
        ({}, 'pip install onedl-mmcv==2.3.6'),
        (dict(mmcv=['onedl-mmcv']), 'pip install onedl-mmcv==2.3.6'),
        (dict(mmcv=['mmcv', 'onedl-mmcv']), 'pip uninstall -y mmcv && pip install onedl-mmcv==2.3.6'),
    ],
)
def test_mend_is_of_the_stack_that_is_there(monkeypatch, there, command):
    monkeypatch.setattr(compat, 'packages_distributions', lambda: there)
    assert installation('mmcv') == command


@pytest.mark.parametrize(('torch', 'torchvision'), [('2.4.1+cu121', '0.19'), ('2.11.0', '0.26')])
def test_torchvision_goes_with_the_torch_that_is_there(monkeypatch, torch, torchvision):
    fake(monkeypatch, 'torch', torch)
    assert installation('torchvision') == f"pip install 'torchvision=={torchvision}.*'"


def test_host_made_for_another_torch(monkeypatch, tmp_path):
    (tmp_path / 'torchvision.py').write_text('raise RuntimeError("operator torchvision::nms does not exist\\nmore")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'torchvision', raising=False)
    with pytest.raises(
        ImportError, match='found one that fails: operator torchvision::nms does not exist; pip install'
    ):
        require('torchvision')


def test_host_that_lacks_something_itself(monkeypatch, tmp_path):
    # onedl-mmpretrain pulls an empty `modelindex`; what it imports is in the package `model-index`.
    (tmp_path / 'mmpretrain.py').write_text('import modelindex_without_content')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mmpretrain', raising=False)
    with pytest.raises(ImportError, match=r"lacks 'modelindex_without_content': pip install .*mmpretrain"):
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
