# Copyright (c) MMMixPro contributors.
"""Compile mmcv's ops, which mmdet needs: ``python -m mmmixpro.utils.build_ops``.

An mmcv that was installed without torch in sight is pure Python: that takes seconds and is enough
for classification and segmentation. The ops take 4 to 12 minutes on 2 cores, so the compiled wheel
is kept in ``~/.cache/mmmixpro/<mmcv>-<torch>-<cpXY>/`` (``$MMMIXPRO_CACHE`` replaces the first two
folders) and serves every environment with these versions. Whether an environment has the ops is
proven by running one, never by version: the pure and the compiled mmcv carry the same.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from .cache import cache_root
from .compat import HOSTS
from .ninja import likely_cause, run_build

PROOF = """
import torch, mmcv._ext
from mmcv.ops import nms
nms(torch.ones(1, 4), torch.ones(1), 0.5)
"""
NEEDED = ('pip', 'setuptools', 'packaging', 'ninja')


class BuildError(RuntimeError):
    """mmcv's ops could not be compiled, or do not load."""


def has_mmcv_ops() -> bool:
    """Whether a fresh process of this environment runs one of mmcv's compiled ops."""
    return importlib.util.find_spec('mmcv._ext') is not None and _failure_of_ops() is None


def ensure_mmcv_ops() -> None:
    """Give this environment mmcv's compiled ops, from the cache or compiled with visible progress.

    Of processes that ask at the same time one compiles; the others wait for it.

    Raises:
        BuildError: If compiling fails or the ops do not load; names the log and a likely cause.
    """
    if has_mmcv_ops():
        return
    try:
        with _lock(cache_root()):
            if not has_mmcv_ops():
                _install_or_compile(wheel_folder())
    except OSError as error:
        raise BuildError(f'cannot keep them in {cache_root()}: {error}. MMMIXPRO_CACHE names another folder') from error


def wheel_folder() -> Path:
    """The cache's folder for this mmcv, torch, Python and, where there is one, kind of GPU."""
    key = f'{_mmcv()[1]}-{torch.__version__}-cp{sys.version_info.major}{sys.version_info.minor}'
    # Compiled with no GPU in sight, the ops are CPU only; a login node and the GPU nodes behind it
    # may share a home.
    if torch.cuda.is_available():
        key += '-sm{}{}'.format(*torch.cuda.get_device_capability())
    return cache_root() / key


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / '.lock')
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say('another process is compiling or installing them, waiting for it')
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _say(text: str) -> None:
    print(f'mmcv ops: {text}', flush=True)


def _mmcv() -> tuple[str, str]:
    """Package name and version of the installed mmcv: the maintained fork or the upstream one."""
    for name in ('onedl-mmcv', 'mmcv'):
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    raise BuildError(
        "needs the package 'onedl-mmcv' or 'mmcv', found neither (mmcv-lite never has ops): "
        f'pip install {HOSTS["mmcv"].fork}; upstream, pip install mmcv==2.1.0'
    )


def _failure_of_ops() -> str | None:
    """Run an op in a fresh process; None if that works, else the last line of its error."""
    return _failure_of([sys.executable, '-c', PROOF])


def _failure_of(command: list[str]) -> str | None:
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode == 0:
        return None
    return f'exit status {process.returncode}\n{process.stderr.strip()}'.splitlines()[-1]


def _install_or_compile(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for cached in folder.glob('*.whl'):
        failure = _install(cached)
        if failure is None:
            _say(f'installed {cached}')
            return
        _say(f'{cached} does not load here ({failure}), compiling it again')
        cached.unlink()
    wheel = _compile(folder)
    failure = _install(wheel)
    if failure is not None:
        wheel.unlink()
        raise BuildError(f'compiled, but they do not load: {failure}')


def _install(wheel: Path) -> str | None:
    """Replace the installed mmcv; None if its ops then work, else what is wrong."""
    command = [sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index']
    return _failure_of([*command, '--force-reinstall', str(wheel)]) or _failure_of_ops()


def _compile(folder: Path) -> Path:
    """Compile in a folder that vanishes, however it ends; a finished wheel moves to ``folder``."""
    missing = ' '.join(name for name in NEEDED if importlib.util.find_spec(name) is None)
    if missing:
        raise BuildError(f'compiling them needs {missing} in {sys.prefix}: pip install {missing}')
    for left_by_a_killed_run in folder.glob('build-*'):
        shutil.rmtree(left_by_a_killed_run)
    log = folder / 'log.txt'
    _say(f'compiling, once per machine; 4 to 12 minutes on 2 cores; log: {log}')
    with tempfile.TemporaryDirectory(dir=folder, prefix='build-') as work:
        status = run_build(_build_command(work), _build_environment(work), log, 'mmcv ops')
        wheels = list(Path(work).glob('*.whl'))
        if status != 0 or not wheels:
            raise BuildError(f'compiling them failed: {likely_cause(log)}. Log: {log}')
        return wheels[0].rename(folder / wheels[0].name)


def _build_command(work: str) -> list[str]:
    name, number = _mmcv()
    command = [sys.executable, '-m', 'pip', 'wheel', '--verbose', '--wheel-dir', work]
    # pip's cache knows a wheel by its version only: it would hand out the pure mmcv here, and the
    # compiled one to an environment with another torch.
    command += ['--no-cache-dir', '--no-binary', name, '--no-build-isolation', '--no-deps']
    return [*command, f'{name}=={number}']


def _build_environment(work: str) -> dict[str, str]:
    environment = dict(os.environ, TMPDIR=work)
    # ninja stands beside a Python that may be run without its environment being activated.
    environment['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{os.environ.get("PATH", "")}'
    # CFLAGS replaces Python's own flags. Without debug symbols a file takes 6 s instead of 11 s.
    environment['CFLAGS'] = f'-O2 -DNDEBUG -g0 {os.environ.get("CFLAGS", "")}'
    # mmcv would start at least 4 compilers, each with 1 GB of memory.
    affinity = hasattr(os, 'sched_getaffinity')
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count()
    environment.setdefault('MAX_JOBS', str(cores))
    return environment


def main() -> None:
    """Make the ops ready, or say in one line why they are not."""
    # Terminated, it unwinds as after Ctrl-C: the compilers stop and nothing half stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('mmcv ops: terminated'))
    try:
        ensure_mmcv_ops()
    except BuildError as error:
        sys.exit(f'mmcv ops: {error}')
    _say('ready')


if __name__ == '__main__':
    main()
