# Copyright (c) MMMixPro contributors.
"""What the benchmarks share: the methods to compare, fair timing, and results that say where they come from."""

import argparse
import json
import os
import platform
import random
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmmixpro  # noqa: E402
from mmmixpro.mixing import BatchMixer  # noqa: E402
from mmmixpro.utils.methods import find_configs  # noqa: E402

BASELINE = 'baseline'  # mmpretrain's own ImageClassifier, no mixing: the `none` of every ratio
PACKAGES = ('torch', 'torchvision', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain', 'timm', 'numpy')

MMLogger.get_instance('benchmark', log_level='WARNING')  # otherwise a line for each parameter


def _git(*command: str) -> str:
    done = subprocess.run(['git', *command], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else 'unknown'


# Of the code that was loaded, whatever is committed while it runs.
COMMIT = _git('rev-parse', 'HEAD')
if _git('status', '--porcelain', '--', '.', ':!benchmarks/results'):
    COMMIT += '-dirty'


def find_methods(model: str) -> dict[str, Path]:
    """The methods that have a config for a model, by the name of their folder; ``baseline`` first.

    A method that gets its folder under ``configs/`` is part of every benchmark.

    Args:
        model: Stem of the model's configs before the batch size, ``'deit-t'`` for example.

    Raises:
        ValueError: If no method has a config for this model.
    """
    found = find_configs(ROOT / 'configs', model)
    if BASELINE not in found:
        known = sorted(path.stem.split('_')[0] for path in ROOT.glob(f'configs/{BASELINE}/*.py'))
        raise ValueError(f'No configs/{BASELINE}/{model}_8xb128_in1k.py to compare with; models with one: {known}.')
    return {BASELINE: found.pop(BASELINE), **found}


def find_variant(model: str, name: str) -> Path:
    """The config of a method's variant, ``'tokenmix/precomputed'`` for example.

    Raises:
        ValueError: If there is none.
    """
    method, _, variant = name.partition('/')
    path = ROOT / f'configs/{method}/{model}_{variant}_8xb128_in1k.py'
    if not path.is_file():
        found = sorted(path.name for path in path.parent.glob(f'{model}_*'))
        raise ValueError(f"'{name}' is none of the variants of {model} in configs/{method}: {found}.")
    return path


def timing_config(path: Path, own_mixer: bool = False) -> Config:
    """A method's config as far as time goes: a frozen teacher takes as long with any weights, so none are loaded.

    Args:
        path: Of the config.
        own_mixer: Mix every batch by the method's own mixer, and none by Mixup beside it.
    """
    cfg = Config.fromfile(path)
    if own_mixer and cfg.model.type != 'ImageClassifier':
        cfg.model.train_cfg = dict(augments=[cfg.model.train_cfg.augments[0]])
    for augment in cfg.model.get('train_cfg', {}).get('augments', []):
        if 'teacher' in augment:
            augment.teacher.pop('init_cfg', None)
    return cfg


def build_classifier(cfg: Config, device: torch.device, seed: int = 0) -> nn.Module:
    """The classifier of a config as its runner would build it, initialised and in training mode."""
    init_default_scope('mmpretrain')
    set_random_seed(seed)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    model.init_weights()
    return model.to(device).train()


def own_mixers(classifier: nn.Module) -> list[BatchMixer]:
    """The mixers of this package that a classifier draws from.

    But for those that a teacher or the model itself guides: forward passes are what they cost, and part of the
    training step's time.
    """
    augment: Any = getattr(classifier, 'augment', None)
    mixers = [one for one in augment.augments if isinstance(one, BatchMixer)] if augment else []
    return [mixer for mixer in mixers if not mixer.guided and getattr(mixer, 'teacher', None) is None]


def label_batches(num: int, num_classes: int, count: int) -> Iterator[list[DataSample]]:
    """Labels as a data loader delivers them, made before anything is timed: mmpretrain writes into them.

    With an activation map each, for those who read it (TokenMix with precomputed maps).
    """
    content = np.random.default_rng(0).random((num, 14, 14), dtype=np.float32)
    return iter(
        [[DataSample(content=content[i]).set_gt_label(i % num_classes) for i in range(num)] for _ in range(count)]
    )


def interleave(steps: Mapping[str, Callable[[], Any]], rounds: int, warmup: int, seed: int) -> dict[str, list[float]]:
    """Time callables in turn, so that each meets the machine in the same moods.

    Args:
        steps: What to time, by name.
        rounds: Timed rounds; in each, every step runs once, in an order drawn anew.
        warmup: Rounds before that.
        seed: Of the orders.

    Returns:
        dict[str, list[float]]: Seconds of each step in each round.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    order, draw = list(steps), random.Random(seed)
    for index in track(range(-warmup, rounds), description='timing', console=Console(stderr=True)):
        draw.shuffle(order)
        for name in order:
            synchronize()
            start = time.perf_counter()
            steps[name]()
            synchronize()
            if index >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def synchronize() -> None:
    """Wait for the GPU in use, if any."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method='inclusive') if len(values) > 1 else 3 * list(values)
    return dict(median=middle, q1=low, q3=high)


def ratios(times: Mapping[str, Sequence[float]], reference: str) -> dict[str, dict[str, float]]:
    """Time of each step over that of the reference, pair by pair: median and quartiles."""
    return {
        name: spread([own / other for own, other in zip(values, times[reference], strict=True)])
        for name, values in times.items()
    }


def common_arguments(description: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--device',
        type=_choose_device,
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='default: %(default)s',
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, help='JSON file; default: work_dirs/benchmarks/<script>_<device>.json')
    return parser


def _choose_device(name: str) -> str:
    """Make one of several GPUs the one that is waited for."""
    if torch.cuda.is_available() and torch.device(name).index is not None:
        torch.cuda.set_device(name)
    return name


def provenance(args: argparse.Namespace) -> dict[str, Any]:
    """Where a result comes from: device, versions, commit, command, seed."""
    device = torch.device(args.device)
    return dict(
        command=shlex.join(['python', os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]]),
        seed=args.seed,
        commit=COMMIT,
        date=time.strftime('%Y-%m-%d'),
        device=torch.cuda.get_device_name(device) if device.type == 'cuda' else _cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        versions={'mmmixpro': mmmixpro.__version__} | {name: _version(name) for name in PACKAGES},
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return 'not installed'


def _cpu_name() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.processor())


def save(args: argparse.Namespace, results: dict[str, Any]) -> Path:
    """Write results with their provenance, whole or not at all, and say where."""
    script = Path(sys.argv[0]).stem
    path = args.out or ROOT / f'work_dirs/benchmarks/{script}_{torch.device(args.device).type}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix('.part')
    part.write_text(json.dumps({**provenance(args), **results}, indent=1) + '\n')
    part.replace(path)
    print(f'Results: {path}')
    return path


def print_table(title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Rows of the same columns; the first column names the row."""
    table = Table(title=title, title_justify='left')
    for index, column in enumerate(rows[0]):
        table.add_column(column, justify='right' if index else 'left')
    for row in rows:
        table.add_row(*row.values())
    Console(width=max(120, Console().width)).print(table)
