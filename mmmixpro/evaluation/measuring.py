# Copyright (c) MMMixPro contributors.
"""One test of one model, whose failure is a result too."""

import gc
import io
import logging
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine import fileio
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mmmixpro.engine.launch import build_runner
from mmmixpro.engine.loading import load_whole_model
from mmmixpro.engine.preflight import data_paths

COLUMNS = (
    TextColumn('{task.description}', markup=False),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


def measure(cfg: Config, title: str, console: Console) -> dict[str, Any]:
    """Test a model, with a bar that tells how far it is; what is printed meanwhile goes to ``console.txt``.

    Args:
        cfg: Of the test, with ``load_from`` and ``work_dir``.
        title: What is tested, for people.
        console: Where the bar is shown, bound to its stream.

    Returns:
        dict[str, Any]: ``status``: ``'done'``, with ``metrics``, a ``note`` of what the loop says they hang on, the
        number of ``images``, ``seconds``, ``device`` and ``warnings``; or ``'skipped'``, if data or other files are not
        there, or ``'failed'``, both with the ``reason``.

    Raises:
        Exception: What one of several ranks meets during the test: the others wait for it, and cannot go on.
    """
    for dataset, path in data_paths(cfg, 'test_dataloader'):
        if not fileio.exists(path):
            # Our own datasets say how to get them.
            source = getattr(DATASETS.get(dataset['type']), 'SOURCE', '')
            reason = f"{dataset['type']} expects '{path}', which is not there. {source}".rstrip()
            return dict(status='skipped', reason=reason)
    Path(cfg.work_dir, 'error.txt').unlink(missing_ok=True)
    printed = io.StringIO()
    bar = Progress(*COLUMNS, console=console, transient=True, disable=not console.is_terminal)
    # Entered first, the bar takes the console as it is.
    with bar, redirect_stdout(printed), redirect_stderr(printed):
        result = _measure(cfg, _Watch(bar, title))
    if is_main_process():
        Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
        Path(cfg.work_dir, 'console.txt').write_text(printed.getvalue())
    # A runner holds its model, and its workers, in circles.
    gc.collect()
    return result


def _measure(cfg: Config, watch: Hook) -> dict[str, Any]:
    warnings = _Warnings()
    start = time.perf_counter()
    runner, wrong = _attempt(partial(_build, cfg, watch, warnings), cfg.work_dir, absent='skipped')
    # What cannot be built on one rank is left out on all.
    wrong = next(filter(None, all_gather_object(wrong)), None)
    if wrong is not None:
        return wrong
    metrics, wrong = _attempt(runner.test, cfg.work_dir) if get_world_size() == 1 else (runner.test(), None)
    if wrong is not None:
        return wrong
    return dict(
        status='done',
        metrics={key: float(value) for key, value in metrics.items()},
        # Loops tell in words what their figures depend on.
        note=runner.message_hub.runtime_info.get(type(runner.test_loop).__name__, ''),
        images=len(runner.test_dataloader.dataset),
        seconds=time.perf_counter() - start,
        device=device_name(),
        warnings=warnings.messages,
    )


def device_name() -> str:
    """What the tests run on."""
    return torch.cuda.get_device_name() if get_device() == 'cuda' else get_device()


def _build(cfg: Config, watch: Hook, warnings: logging.Handler) -> Runner:
    """A runner with its model, its data and its metrics."""
    runner = build_runner(cfg)
    runner.logger.addHandler(warnings)
    runner.register_hook(watch)
    runner.load_checkpoint = partial(load_whole_model, runner)
    _ = runner.test_loop  # builds it
    return runner


def _attempt(step: Callable[[], Any], work_dir: str, absent: str = 'failed') -> tuple[Any, dict[str, str] | None]:
    """What a step gives, or what goes wrong, of which the log folder gets all; ``absent``: where files are."""
    try:
        return step(), None
    except Exception as error:
        Path(work_dir).mkdir(parents=True, exist_ok=True)
        Path(work_dir, 'error.txt').write_text(traceback.format_exc())
        # The errors of a data loader's workers begin with where they were.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        status = absent if isinstance(error, FileNotFoundError) else 'failed'
        return None, dict(status=status, reason=lines[-1] if lines else type(error).__name__)


class _Watch(Hook):
    """Shows how far a test is; loops that go through the data many times fill it each time."""

    def __init__(self, progress: Progress, title: str):
        self.progress, self.title, self.passes = progress, title, 0
        self.task = progress.add_task(title, total=None)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.passes += batch_idx == 0
        self.progress.update(
            self.task,
            description=self.title + (f', pass {self.passes}' if self.passes > 1 else ''),
            completed=batch_idx + 1,
            total=len(runner.test_dataloader),
        )


class _Warnings(logging.Handler):
    """Keeps what a run warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
