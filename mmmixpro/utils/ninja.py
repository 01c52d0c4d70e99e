# Copyright (c) MMMixPro contributors.
"""Run a build that ninja drives, show how far it is, and tell why it failed."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

NINJA_COUNT = re.compile(r'\s*\[(\d+)/(\d+)\]')
LIKELY_CAUSES = (
    (r'No space left on device', 'the disk is full'),
    (r'Python\.h: No such file', "Python's headers are missing: apt install python3-dev"),
    (r'(\+\+|gcc|cc): not found', 'there is no C++ compiler: apt install g++'),
    (
        r'CUDA_HOME|nvcc: not found',
        'a GPU, but no CUDA toolkit: install it, or hide the GPU (CUDA_VISIBLE_DEVICES=-1)',
    ),
    (r'Killed|out of memory', 'the memory ran out: compile fewer files at once (MAX_JOBS=1)'),
    (r'No matching distribution|ConnectionError', 'the package index could not be reached'),
)


def run_build(command: list[str], environment: dict[str, str], log: Path, title: str) -> int:
    """Run ``command`` with a bar of the files compiled, its output in ``log``; its exit status."""
    with (
        open(log, 'w') as file,
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            show_progress(compiled_files(process.stdout, file), title)
        except BaseException:  # Ctrl-C above all: no compiler goes on in a folder that vanishes
            os.killpg(process.pid, signal.SIGTERM)
            raise
    return process.returncode


def compiled_files(output: Iterable[str], log: TextIO) -> Iterator[tuple[int, int]]:
    """Copy ``output`` to ``log``; yield (done, total) of each of ninja's ``[done/total]`` lines."""
    for line in output:
        log.write(line)
        log.flush()
        count = NINJA_COUNT.match(line)
        if count:
            yield int(count[1]), int(count[2])


def show_progress(counts: Iterable[tuple[int, int]], title: str) -> None:
    """Draw a bar in a terminal; elsewhere, as in a log file, print a line at every tenth."""
    console = Console()
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    start, printed = time.monotonic(), 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task('', total=None)
        for done, total in counts:
            bar.update(task, completed=done, total=total)
            tenth = 10 * done // total
            if not console.is_terminal and tenth > printed:
                printed = tenth
                print(f'{title}: {done}/{total} files, {time.monotonic() - start:.0f} s', flush=True)


def likely_cause(log: Path) -> str:
    """What usually causes the error that ``log`` ends with, and how to mend it."""
    text = log.read_text(errors='replace')
    causes = (cause for pattern, cause in LIKELY_CAUSES if re.search(pattern, text))
    return next(causes, 'the reason stands at the end of the log')
