# Copyright (c) MMMixPro contributors.
"""Run a part of the tests on every supported Python, on both stacks and on the oldest torch: ``make test-matrix``.

    python tools/setup/matrix.py [--only NAME ...]

Each combination has an environment of its own in .venv-matrix/, of several GB (uv links what they share), and a log
beside it. Ends with a table; a combination that cannot be installed stays in it, with the reason.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / '.venv-matrix'
# Every method, label policy and family of models, a run that is stopped and goes on, what differs between the stacks;
# not torch.compile, which takes minutes.
TESTS = (
    *('tests/labels', 'tests/structures', 'tests/mixing/test_every_mixer.py', 'tests/mixing/test_maskmix.py'),
    *('tests/attention/test_class_attention.py', 'tests/attention/test_patch_attention.py'),
    *(f'tests/models/test_{name}.py' for name in ('mix_classifier', 'pal_oracle', 'training', 'cait', 'ca_swin')),
    *('tests/test_registry.py', 'tests/utils/test_stacks.py', 'tests/utils/test_weights.py'),
    'tests/tools/test_resume.py::test_interrupted_run_resumes_to_the_same_weights',
)


class Combination(NamedTuple):
    """A Python version, and a lock below requirements/."""

    python: str
    stack: str
    lock: str

    @property
    def name(self) -> str:
        return f'{self.stack}-{self.python}'


COMBINATIONS = [
    *(Combination(python, 'forks', 'lock.txt') for python in ('3.10', '3.11', '3.12', '3.13')),
    Combination('3.10', 'forks-lowest-torch', 'lowest.txt'),
    *(Combination(python, 'upstream', 'upstream.txt') for python in ('3.10', '3.13')),
]


def find_python(version: str) -> str | None:
    """An interpreter of a version: on the path, or one that pyenv has."""
    pyenv = Path(os.environ.get('PYENV_ROOT', '~/.pyenv')).expanduser() / 'versions'
    found = [shutil.which(f'python{version}'), *sorted(pyenv.glob(f'{version}.*/bin/python'))]
    for path in filter(None, found):
        # pyenv puts a name for each Python it has on the path, also for those that are not switched on.
        if subprocess.run([path, '--version'], capture_output=True).returncode == 0:
            return str(path)
    return None


def run(combination: Combination) -> list[str]:
    """Install and test a combination.

    Returns:
        list[str]: Its row: name, Python, torch, result, seconds.
    """
    row = [combination.name, combination.python, '-']
    python = find_python(combination.python)
    if python is None:
        return [*row, f'not installed: no python{combination.python} found', '-']
    venv, log = FOLDER / combination.name, FOLDER / f'{combination.name}.log'
    environment = {**os.environ, 'PYTHON': python, 'OMP_NUM_THREADS': '1'}
    install = [ROOT / 'tools/setup/install.sh', f'requirements/{combination.lock}', venv.relative_to(ROOT)]
    if status := logged(install, log, environment):
        return [*row, f'not installed: {last_line(log) or status}', '-']
    python = str(venv / 'bin/python')
    row[1:] = [version(python, 'platform', 'platform.python_version()'), version(python, 'torch', 'torch.__version__')]
    start = time.monotonic()
    status = logged([python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *TESTS], log, environment)
    counts = re.findall(r'\d+ (?:passed|failed|skipped|errors?)', last_line(log))
    return [*row, ', '.join(counts) or f'exit status {status}: {last_line(log)}', f'{time.monotonic() - start:.0f}']


def version(python: str, module: str, expression: str) -> str:
    command = [python, '-W', 'ignore', '-c', f'import {module}; print({expression})']
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def logged(command: list, log: Path, environment: dict[str, str]) -> int:
    with log.open('a') as file:
        return subprocess.run(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode


def last_line(log: Path) -> str:
    lines = log.read_text().strip().splitlines()
    return lines[-1].strip('= ') if lines else ''


def main() -> None:
    names = [combination.name for combination in COMBINATIONS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', choices=names, default=names, help='these combinations')
    only = parser.parse_args().only
    FOLDER.mkdir(exist_ok=True)
    rows = [['combination', 'Python', 'torch', 'tests', 'seconds']]
    for combination in COMBINATIONS:
        if combination.name not in only:
            continue
        print(f'{combination.name} ...', flush=True)
        (FOLDER / f'{combination.name}.log').unlink(missing_ok=True)
        rows.append(run(combination))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    sys.exit(any('passed' not in row[3] or 'failed' in row[3] or 'error' in row[3] for row in rows[1:]))


if __name__ == '__main__':
    main()
