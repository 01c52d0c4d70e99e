# Copyright (c) MMMixPro contributors.
"""One test of one model, whose failure is a result too."""

import gc
import io
import logging
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mmmixpro.engine.launch import build_runner
from mmmixpro.engine.loading import load_whole_model
from mmmixpro.engine.preflight import missing_paths, num_classes
from mmmixpro.engine.unwrap import unwrap_model

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
        there, or the data are of other classes than the model, or ``'failed'``, both with the ``reason``. All ranks get
        the same.

    Raises:
        Exception: What one of several ranks meets after its first batch: the others wait for it, and cannot go on.
    """
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
    warnings, ranks, start = _Warnings(), _Ranks(), time.perf_counter()
    try:
        ranks.go_on_together(_missing(cfg))
        runner = _build(cfg, (watch, ranks), warnings)
        metrics = runner.test()
    except _LeftOut as other:
        return other.result
    except Exception as error:
        if ranks.apart:
            raise
        begun = ranks.exchanges < 2
        return ranks.exchange(_left_out(error, cfg.work_dir, begun)) or {}
    return dict(
        status='done',
        metrics=_figures(metrics, warnings.messages),
        # Loops tell in words what their figures depend on.
        note=runner.message_hub.runtime_info.get(type(runner.test_loop).__name__, ''),
        images=len(runner.test_dataloader.dataset),
        seconds=time.perf_counter() - start,
        device=device_name(),
        warnings=warnings.messages,
    )


def _missing(cfg: Config) -> dict[str, str] | None:
    """The result of a test whose data are not there."""
    for dataset, path, source in missing_paths(cfg, 'test_dataloader'):
        error = FileNotFoundError(f"{dataset['type']} expects '{path}', which is not there{source}")
        return _left_out(error, cfg.work_dir, begun=False)
    return None


def device_name() -> str:
    """What the tests run on."""
    return torch.cuda.get_device_name() if get_device() == 'cuda' else get_device()


def _build(cfg: Config, hooks: Sequence[Hook], warnings: logging.Handler) -> Runner:
    """A runner with its model, its data, which are of the model's classes, and its metrics."""
    runner = build_runner(cfg)
    runner.logger.addHandler(warnings)
    for hook in hooks:
        runner.register_hook(hook)
    runner.load_checkpoint = partial(load_whole_model, runner)
    _ = runner.test_loop  # builds it
    _check_classes(runner.test_dataloader.dataset, unwrap_model(runner))
    return runner


class _OtherClasses(ValueError):
    """A model and a set that have nothing to say about each other."""


def _check_classes(dataset: Any, model: Any) -> None:
    """Refuse a set of other classes than the model's, where both say how many they have."""
    room, classes = getattr(getattr(model, 'head', None), 'num_classes', None), num_classes(dataset)
    # Without names there are as many classes as there are labels, or more.
    named = getattr(dataset, 'metainfo', {}).get('classes') is not None
    if isinstance(room, int) and (classes > room or (named and classes < room)):
        raise _OtherClasses(f"the set's labels are of {classes} classes, the model has {room}")


def _left_out(error: Exception, work_dir: str, begun: bool) -> dict[str, str]:
    """The result of a test that goes wrong, of which the log folder gets all."""
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    Path(work_dir, 'error.txt').write_text(''.join(traceback.format_exception(error)))
    # The errors of a data loader's workers begin with where they were.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    skipped = isinstance(error, FileNotFoundError | _OtherClasses) and not begun
    return dict(status='skipped' if skipped else 'failed', reason=lines[-1] if lines else type(error).__name__)


def _figures(metrics: dict[str, Any], warnings: list[str]) -> dict[str, float]:
    """Metrics that are one number each; a warning names the others."""
    figures = {}
    for key, value in metrics.items():
        try:
            figures[key] = float(value)
        except (TypeError, ValueError):
            warnings.append(f'{key} is not one number and is left out')
    return figures


class _LeftOut(Exception):
    """A test is left out, for what another rank has met."""

    def __init__(self, result: dict[str, str]):
        self.result = result


class _Ranks(Hook):
    """Ranks tell each other what goes wrong, before a runner is built, before the first batch and after it.

    What one cannot test, none does.

    Later they do not, for that would cost time with each batch.
    """

    priority = 'LOWEST'  # after all that may fail

    def __init__(self) -> None:
        #: How many there will be.
        self.exchanges = 3

    @property
    def apart(self) -> bool:
        """Whether other ranks would not know what goes wrong on this one."""
        return self.exchanges <= 0 and get_world_size() > 1

    def exchange(self, wrong: dict[str, str] | None = None) -> dict[str, str] | None:
        """What goes wrong on any rank, that of the first one that has something; None if nothing does."""
        self.exchanges -= 1
        return next(filter(None, all_gather_object(wrong)), None)

    def before_test_epoch(self, runner: Runner) -> None:
        self.go_on_together()

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if batch_idx == 0:
            self.go_on_together()

    def go_on_together(self, wrong: dict[str, str] | None = None) -> None:
        """Raise on all ranks if something goes wrong on one."""
        wrong = self.exchange(wrong)
        if wrong is not None:
            raise _LeftOut(wrong)


class _Watch(Hook):
    """Shows how far a test is."""

    def __init__(self, progress: Progress, title: str):
        self.progress, self.task = progress, progress.add_task(title, total=None)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.progress.update(self.task, completed=batch_idx + 1, total=len(runner.test_dataloader))


class _Warnings(logging.Handler):
    """Keeps what a run warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
