# Copyright (c) MMMixPro contributors.
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ['tools/setup/install.sh', 'requirements/lock.txt', 'pyproject.toml', 'setup.py']


@pytest.fixture
def checkout(tmp_path):
    """A checkout that has what tools/setup/install.sh reads."""
    checkout = tmp_path / 'a checkout'
    for name in FILES:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    return checkout


@pytest.fixture
def python(tmp_path):
    """Writes a ``python`` that is not what it should be."""

    def python(script):
        path = tmp_path / 'python'
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o755)
        return str(path)

    return python


# Stands for a Python whose venvs, uv and packages cost nothing; each call leaves a line in `calls`.
UV = """#!/bin/sh
echo "uv $*" >> calls
"""
WORKING = f"""
case "$1" in
    -c) exec {sys.executable} "$@" ;;
esac
echo "python $*" >> calls
case "$*" in
    '-m venv --clear .venv')
        mkdir -p .venv/bin
        cp "$0" .venv/bin/python ;;
    '-m pip install'*)
        cat > .venv/bin/uv << 'EOF'
{UV}EOF
        chmod +x .venv/bin/uv ;;
esac
"""


def install(checkout, python):
    environment = {**os.environ, 'PYTHON': python}
    script = checkout / 'tools/setup/install.sh'
    return subprocess.run([script], cwd='/', env=environment, capture_output=True, text=True)


def calls(checkout):
    path = checkout / 'calls'
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_installs_the_lock_then_the_checkout_then_nothing(checkout, python):
    run = install(checkout, python(WORKING))
    assert run.returncode == 0, run.stderr
    venv, bootstrap, lock, editable = [line for line in calls(checkout) if '--version' not in line]
    (pin,) = [line for line in (checkout / 'requirements/lock.txt').read_text().splitlines() if line.startswith('uv==')]
    assert venv == 'python -m venv --clear .venv'
    assert bootstrap == f'python -m pip install --quiet {pin}'
    assert lock == 'uv pip install --python .venv/bin/python --no-deps --requirements requirements/lock.txt'
    assert editable.endswith('--no-deps --no-build-isolation --quiet --editable .')

    # Done: Python is not even looked at.
    assert install(checkout, '/no/such/python').returncode == 0
    assert calls(checkout) == []


@pytest.mark.parametrize('changed', ['requirements/lock.txt', 'pyproject.toml', 'setup.py', 'folder'])
def test_installs_again_when_something_changed(checkout, python, changed):
    install(checkout, python(WORKING))
    calls(checkout)
    if changed == 'folder':
        checkout = checkout.rename(checkout.with_name('moved'))
    else:
        with open(checkout / changed, 'a') as file:
            file.write('\n')
    assert install(checkout, python(WORKING)).returncode == 0
    assert [line for line in calls(checkout) if line.startswith('uv pip install')]
    assert len(list((checkout / '.venv').glob('.installed-*'))) == 1


def test_failed_installation_is_not_taken_for_done(checkout, python):
    failing = python(WORKING.replace('echo "uv $*" >> calls', 'exit 1'))
    assert install(checkout, failing).returncode != 0
    assert not list((checkout / '.venv').glob('.installed-*'))
    assert install(checkout, python(WORKING)).returncode == 0


def test_old_python(checkout, python):
    run = install(checkout, python('[ "$1" = --version ] && echo Python 3.8.18; exit 1'))
    assert run.returncode == 1
    assert run.stderr == (
        "install: needs Python 3.10 or newer, found 'Python 3.8.18'; name another one: make PYTHON=python3.12\n"
    )


def test_neither_venv_nor_pip(checkout, python):
    run = install(checkout, python(f'[ "$1" = -c ] && exec {sys.executable} "$@"; exit 1'))
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert 'has neither venv (with ensurepip) nor pip' in line
    assert 'apt install python3-venv' in line


def test_pip_but_no_ensurepip(checkout, python):
    """Debian's python3 without python3-venv: uv comes beside the environment, by the system's pip."""
    debian = WORKING.replace(
        "'-m venv --clear .venv')", "'-m venv --clear .venv') exit 1 ;;\n    '-m venv --clear --without-pip .venv')"
    ).replace('.venv/bin/uv', '.venv/bootstrap/bin/uv')
    debian = debian.replace("'-m pip install'*)", "'-m pip install'*) mkdir -p .venv/bootstrap/bin;")
    run = install(checkout, python(debian))
    assert run.returncode == 0, run.stderr
    assert [line for line in calls(checkout) if '--target .venv/bootstrap uv==' in line]
    assert not (checkout / '.venv/bootstrap').exists()


def test_second_make_waits_for_the_first(checkout, python):
    slow = python(WORKING.replace('mkdir -p .venv/bin', 'sleep 1; mkdir -p .venv/bin'))
    command = [checkout / 'tools/setup/install.sh']
    environment = {**os.environ, 'PYTHON': slow}
    runs = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(timeout=60) for run in runs] == [0, 0]
    done = calls(checkout)
    assert done.count('python -m venv --clear .venv') == 1
    assert len([line for line in done if line.startswith('uv pip install')]) == 2  # the lock, the checkout
