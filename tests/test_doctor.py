# Copyright (c) MMMixPro contributors.
"""The doctor in broken environments: one line names what is wrong and the mend, which comes again at the end."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmmixpro import doctor
from mmmixpro.utils import build_ops

ROOT = Path(__file__).resolve().parents[1]
# Python's own `import` of these takes no time, and nothing of this environment is looked at.
HOSTS = dict(torch='2.11.0', torchvision='0.26.0', mmengine='0.10.12', mmcv='2.3.6', mmpretrain='1.3.6')
COMMANDS = [('-m', 'mmmixpro.doctor'), ('{folder}/mmmixpro', 'doctor')]


@pytest.fixture
def diagnose(tmp_path):
    """Runs the doctor where the host libraries are stand-ins, some of them with code of their own."""

    def diagnose(command=COMMANDS[0], **code):
        for name, version in HOSTS.items():
            (tmp_path / f'{name}.py').write_text(f'__version__ = {version!r}\n{code.get(name, "")}')
        # As pip writes it for the entry point.
        (tmp_path / 'mmmixpro').write_text('from mmmixpro.doctor import command\ncommand()')
        environment = {**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{ROOT}', 'MMMIXPRO_CACHE': str(tmp_path)}
        arguments = [part.format(folder=tmp_path) for part in command]
        run = subprocess.run([sys.executable, *arguments], cwd='/', env=environment, capture_output=True, text=True)
        assert run.stderr == ''
        return run

    return diagnose


def only_mend(output):
    """The one line that is to be fixed, without its mend; the mend stands at the end of the output too."""
    lines = output.splitlines()
    (line,) = [line for line in lines if line.startswith('fix ')]
    assert lines[-2:] == ['Not ready. Run this, then the doctor again:', lines[-1]]
    mend = lines[-1].strip()
    assert line.endswith(f': {mend}')
    return line.removesuffix(f': {mend}'), mend


@pytest.mark.parametrize('command', COMMANDS)
@pytest.mark.parametrize(
    ('code', 'found', 'package'),
    [
        (
            dict(mmpretrain='raise ModuleNotFoundError("No module named \'mmpretrain\'", name="mmpretrain")'),
            'MMMixPro needs mmpretrain <1.4,>=1.2, found none',
            'mmpretrain==',
        ),
        (dict(mmcv='__version__ = "1.7.2"'), 'MMMixPro needs mmcv <2.4,>=2.1, found 1.7.2', 'mmcv'),
        (
            dict(torchvision='raise RuntimeError("operator torchvision::nms does not exist\\nmore")'),
            'MMMixPro needs torchvision <1,>=0.19, found one that fails: operator torchvision::nms does not exist',
            "'torchvision==0.26.*'",
        ),
        (
            dict(torch='raise OSError("libcudart.so.13: cannot open shared object file")'),
            'MMMixPro needs torch <3,>=2.4, found one that fails: libcudart.so.13: cannot open shared object file',
            'torch==',
        ),
    ],
    ids=['no mmpretrain', 'mmcv too old', 'torchvision mismatch', 'broken torch'],
)
def test_broken_hosts(diagnose, command, code, found, package):
    run = diagnose(command, **code)
    assert run.returncode == 1
    line, mend = only_mend(run.stdout)
    assert line == f'fix  {found}'
    assert mend.rpartition(' && ')[2].startswith('pip install ') and package in mend
    (broken,) = code
    names = list(HOSTS)
    for name in names[names.index(broken) + 1 :]:
        assert f'--   {name}: not looked at before {broken} is mended\n' in run.stdout


@pytest.fixture
def examine(monkeypatch, capsys, tmp_path):
    """Runs the doctor in this process, where the hosts are there."""

    def examine(**environment):
        monkeypatch.setattr(doctor, 'check_step', lambda: iter([doctor.Check('ok', 'one training step')]))
        for name, value in (dict(MMMIXPRO_CACHE=tmp_path / 'cache') | environment).items():
            monkeypatch.setenv(name, str(value))
        status = 0
        try:
            doctor.main()
        except SystemExit as error:
            status = error.code
        return status, capsys.readouterr().out

    monkeypatch.setattr(build_ops, 'has_mmcv_ops', lambda: True)
    return examine


def test_ready(examine, tmp_path):
    status, output = examine(IMAGENET_ROOT=f'zip://{tmp_path}', COCO_ROOT=tmp_path / 'nothing')
    assert status == 0
    assert output.splitlines()[-1].startswith('ready: ')
    assert 'fix ' not in output
    for name in HOSTS:
        assert f'\nok   {name} ' in output
    # Data are information.
    assert f'\nok   data: $IMAGENET_ROOT = zip://{tmp_path}\n' in output
    assert f'\n--   data: $COCO_ROOT = {tmp_path}/nothing, not there\n' in output
    assert '$ROBUSTNESS_ROOT is not set' in output


@pytest.mark.parametrize('mmdet', [True, False])
def test_ops_are_missing(examine, monkeypatch, mmdet):
    monkeypatch.setattr(build_ops, 'has_mmcv_ops', lambda: False)
    monkeypatch.setitem(sys.modules, 'mmdet', SimpleNamespace(__version__='3.3.0', __spec__=1) if mmdet else None)
    status, output = examine()
    assert status == 0  # ready for all else
    if mmdet:
        assert "\nfix  mmcv's compiled ops: none that load; detection alone needs them" in output
        ready, needs = output.splitlines()[-2:]
        assert ready.startswith('ready: ')
        assert needs == 'but for detection, which needs: python -m mmmixpro.utils.build_ops'
    else:
        assert "\n--   mmcv's compiled ops: none; detection alone needs them\n" in output


def test_cache_cannot_be_written(examine, tmp_path):
    (tmp_path / 'file').write_text('')
    status, output = examine(MMMIXPRO_CACHE=tmp_path / 'file' / 'cache')
    assert status == 1
    line, mend = only_mend(output)
    assert line == f'fix  cache {tmp_path}/file/cache: cannot be written (Not a directory)'
    assert mend == 'export MMMIXPRO_CACHE=FOLDER_OF_YOURS'


def test_one_step():
    assert doctor.one_step().startswith('one training step, MixPro on a tiny DeiT')


@pytest.mark.parametrize(
    ('code', 'found', 'mend'),
    [
        ('raise RuntimeError("the loss (nan)")', 'RuntimeError: the loss (nan)', 'import mmmixpro'),
        ('import os; os.kill(os.getpid(), 11)', 'exit status -11', 'import mmmixpro'),
        (
            'import no_such_package.x',
            "ModuleNotFoundError: No module named 'no_such_package'",
            'pip install no_such_package',
        ),
    ],
)
def test_step_that_fails(monkeypatch, code, found, mend):
    monkeypatch.setattr(doctor, 'ONE_STEP', code)
    (check,) = doctor.check_step()
    assert check[:2] == ('fix', f'one training step: {found}')
    assert mend in check.mend


def test_gradients_that_are_not_finite(monkeypatch):
    monkeypatch.setattr('torch.Tensor.isfinite', lambda tensor: tensor == float('inf'))
    with pytest.raises(RuntimeError, match='not finite'):
        doctor.one_step()
