# Copyright (c) MMMixPro contributors.
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from mmmixpro.utils import build_ops, ninja
from mmmixpro.utils.build_ops import BuildError, ensure_mmcv_ops, has_mmcv_ops, wheel_folder

WHEEL = 'onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl'
COMPILES = f"""
import pathlib, sys
for i in range(1, 21):
    print(f'  [{{i}}/20] c++ file{{i}}.cpp')
pathlib.Path(sys.argv[1], {WHEEL!r}).write_text('compiled')
"""


class Machine:
    """An environment whose pip, compiler and proof are faked; the cache, lock and log are real."""

    def __init__(self, monkeypatch, tmp_path):
        self.has_ops = False
        self.builder = COMPILES
        self.compiled = 0
        self.installed = []
        self.bad_wheels = []
        monkeypatch.setenv('MMMIXPRO_CACHE', str(tmp_path))
        monkeypatch.setattr(build_ops, 'has_mmcv_ops', lambda: self.has_ops)
        monkeypatch.setattr(build_ops, '_mmcv', lambda: ('onedl-mmcv', '2.3.6'))
        monkeypatch.setattr(build_ops, '_build_command', self.build_command)
        monkeypatch.setattr(build_ops, '_install', self.install)
        monkeypatch.setattr(build_ops, 'NEEDED', ())

    def build_command(self, work):
        self.compiled += 1
        return [sys.executable, '-c', self.builder, work]

    def install(self, wheel):
        content = wheel.read_text()
        self.installed.append(content)
        self.has_ops = content not in self.bad_wheels
        return None if self.has_ops else 'ImportError: undefined symbol'


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_compiles_once_per_machine(machine):
    ensure_mmcv_ops()
    assert (machine.compiled, machine.installed) == (1, ['compiled'])
    assert names_in(wheel_folder()) == ['log.txt', WHEEL]

    ensure_mmcv_ops()  # has them
    machine.has_ops = False  # another environment
    ensure_mmcv_ops()
    assert (machine.compiled, machine.installed) == (1, ['compiled', 'compiled'])


def test_cache_key(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(torch, '__version__', '2.11.0+cu130')
    monkeypatch.setattr(sys, 'version_info', type('V', (), dict(major=3, minor=12)))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert wheel_folder() == tmp_path / '2.3.6-2.11.0+cu130-cp312'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (9, 0))
    assert wheel_folder() == tmp_path / '2.3.6-2.11.0+cu130-cp312-sm90'


def test_failure_names_log_and_likely_cause(machine):
    machine.builder = "import sys; print('/bin/sh: 1: c++: not found'); sys.exit(1)"
    with pytest.raises(BuildError, match=r'compiling them failed: there is no C\+\+ compiler') as error:
        ensure_mmcv_ops()
    log = wheel_folder() / 'log.txt'
    assert str(error.value).endswith(f'Log: {log}')
    assert 'c++: not found' in log.read_text()
    assert names_in(wheel_folder()) == ['log.txt']


def test_cache_that_cannot_be_written(machine, monkeypatch, tmp_path):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('MMMIXPRO_CACHE', str(tmp_path / 'file'))
    with pytest.raises(BuildError, match='MMMIXPRO_CACHE names another folder'):
        ensure_mmcv_ops()


def test_command_line_prints_one_line_on_failure(machine, monkeypatch):
    handlers = {}
    monkeypatch.setattr(signal, 'signal', handlers.__setitem__)
    machine.builder = 'raise SystemExit(1)'
    with pytest.raises(SystemExit) as error:
        build_ops.main()
    assert str(error.value).startswith('mmcv ops: compiling them failed: ')
    with pytest.raises(SystemExit):  # not the default, which would leave compilers running
        handlers[signal.SIGTERM](signal.SIGTERM, None)


def test_wheel_that_does_not_load_is_not_kept(machine):
    machine.bad_wheels = ['compiled']
    with pytest.raises(BuildError, match='undefined symbol'):
        ensure_mmcv_ops()
    assert names_in(wheel_folder()) == ['log.txt']


def test_cached_wheel_that_does_not_load_is_compiled_again(machine):
    machine.bad_wheels = ['of another libc']
    wheel_folder().mkdir(parents=True)
    (wheel_folder() / WHEEL).write_text('of another libc')
    ensure_mmcv_ops()
    assert machine.installed == ['of another libc', 'compiled']
    assert (wheel_folder() / WHEEL).read_text() == 'compiled'


def test_cached_wheel_that_does_not_load_is_dropped_at_once(machine):
    machine.bad_wheels = ['of another libc']
    machine.builder = 'raise SystemExit(1)'
    wheel_folder().mkdir(parents=True)
    (wheel_folder() / WHEEL).write_text('of another libc')
    with pytest.raises(BuildError, match='compiling them failed'):
        ensure_mmcv_ops()
    assert names_in(wheel_folder()) == ['log.txt']


def test_interrupted_build_leaves_nothing_half(machine, monkeypatch):
    machine.builder = (
        'import os, pathlib, sys, time\n'
        "pathlib.Path(sys.argv[1], 'half.o').write_text(str(os.getpid()))\n"
        "print('[1/20] c++', flush=True)\n"
        'time.sleep(60)'
    )
    half = []

    def interrupt(counts, title):
        next(iter(counts))
        half.extend(int(path.read_text()) for path in wheel_folder().glob('build-*/half.o'))
        raise KeyboardInterrupt

    monkeypatch.setattr(ninja, 'show_progress', interrupt)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ensure_mmcv_ops()
    assert time.monotonic() - start < 30
    assert names_in(wheel_folder()) == ['log.txt']
    with pytest.raises(ProcessLookupError):  # no compiler goes on
        os.kill(half[0], 0)

    # nor does the lock stay
    assert FileLock(wheel_folder().parent / '.lock').acquire(timeout=0)


def test_what_a_killed_run_left_is_removed(machine):
    left = wheel_folder() / 'build-killed'
    left.mkdir(parents=True)
    (left / 'half.o').write_text('')
    ensure_mmcv_ops()
    assert not left.exists()


def test_second_process_waits_and_does_not_compile(machine, tmp_path, capsys):
    lock = FileLock(tmp_path / '.lock')
    lock.acquire()
    waiting = threading.Thread(target=ensure_mmcv_ops)
    waiting.start()
    waiting.join(timeout=0.5)
    assert waiting.is_alive()
    machine.has_ops = True  # the first one is done
    lock.release()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert machine.compiled == 0
    assert 'waiting for it' in capsys.readouterr().out


def test_build_environment(monkeypatch):
    monkeypatch.setenv('CFLAGS', '-march=native')
    monkeypatch.setenv('MAX_JOBS', '3')
    environment = build_ops._build_environment('work')
    assert environment['PATH'].startswith(str(Path(sys.executable).parent))
    # -O2 is not superfluous: CFLAGS replaces the flags that Python was built with
    assert environment['CFLAGS'].split() == ['-O2', '-DNDEBUG', '-g0', '-march=native']
    assert (environment['MAX_JOBS'], environment['TMPDIR']) == ('3', 'work')


def test_build_command_trusts_no_cache(monkeypatch):
    monkeypatch.setattr(build_ops, '_mmcv', lambda: ('mmcv', '2.1.0'))
    command = build_ops._build_command('work')
    assert {'--no-cache-dir', '--no-build-isolation', '--no-deps'} < set(command)
    assert command[-1] == 'mmcv==2.1.0'


def test_missing_tools_are_named(machine, monkeypatch):
    monkeypatch.setattr(build_ops, 'NEEDED', ('rich', 'no_such_tool'))
    with pytest.raises(BuildError, match=r'needs no_such_tool in .*: pip install no_such_tool'):
        ensure_mmcv_ops()


def test_mmcv_lite_is_refused(monkeypatch):
    def version(name):
        raise build_ops.PackageNotFoundError(name)

    monkeypatch.setattr(build_ops, 'version', version)
    with pytest.raises(BuildError, match=r'mmcv-lite never has ops.*pip install onedl-mmcv'):
        wheel_folder()


@pytest.mark.parametrize(
    'ext, works',
    [
        ('raise ImportError("undefined symbol: _ZN2at")', False),
        ('', True),
    ],
)
def test_ops_are_proven_by_a_fresh_process(monkeypatch, tmp_path, ext, works):
    package = tmp_path / 'mmcv'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / '_ext.py').write_text(ext)
    (package / 'ops.py').write_text('nms = lambda boxes, scores, threshold: None')
    (tmp_path / 'torch.py').write_text('ones = lambda *shape: None')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    failure = build_ops._failure_of_ops()
    assert failure == (None if works else 'ImportError: undefined symbol: _ZN2at')


@pytest.mark.slow
def test_compiled_ops_of_this_environment():
    """Compiles, where the cache is empty, and installs into this environment."""
    ensure_mmcv_ops()
    assert has_mmcv_ops()
