# Copyright (c) MMMixPro contributors.
import os
import sys

import pytest
from rich.console import Console

from mmmixpro.utils import ninja
from mmmixpro.utils.ninja import likely_cause, run_build

BUILDS = """
print('Collecting onedl-mmcv')
for i in range(1, 79):
    print(f'  [{i}/78] c++ file{i}.cpp')
print('  Successfully built')
raise SystemExit(7)
"""


@pytest.fixture
def build(tmp_path):
    """Runs a script as a build and returns its status and log."""

    def build(script):
        log = tmp_path / 'log.txt'
        return run_build([sys.executable, '-c', script], dict(os.environ), log, 'ops'), log

    return build


def test_every_line_is_logged(build):
    status, log = build(BUILDS)
    assert status == 7
    lines = log.read_text().splitlines()
    assert lines[:2] == ['Collecting onedl-mmcv', '  [1/78] c++ file1.cpp']
    assert lines[-2:] == ['  [78/78] c++ file78.cpp', '  Successfully built']


def test_a_line_for_every_tenth_without_a_terminal(build, capsys):
    build(BUILDS)
    counts = [line.split(' files')[0] for line in capsys.readouterr().out.splitlines()]
    assert counts == [f'ops: {done}/78' for done in (8, 16, 24, 32, 39, 47, 55, 63, 71, 78)]


def test_a_bar_in_a_terminal(build, monkeypatch, capsys):
    monkeypatch.setattr(ninja, 'Console', lambda: Console(force_terminal=True, width=80))
    build(BUILDS)
    shown = capsys.readouterr().out
    assert '78/78' in shown
    assert 'files,' not in shown


@pytest.mark.parametrize(
    'line, cause',
    [
        ('/bin/sh: 1: c++: not found', 'apt install g++'),
        ('fatal error: Python.h: No such file or directory', 'apt install python3-dev'),
        ('error: could not write: No space left on device', 'the disk is full'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('ERROR: No matching distribution found for onedl-mmcv==2.3.6', 'package index'),
        ('OSError: CUDA_HOME environment variable is not set.', 'CUDA toolkit'),
        ('something else', 'the end of the log'),
    ],
)
def test_likely_cause(tmp_path, line, cause):
    log = tmp_path / 'log.txt'
    log.write_text(f'Collecting\n  {line}\n  error: subprocess-exited-with-error\n')
    assert cause in likely_cause(log)
