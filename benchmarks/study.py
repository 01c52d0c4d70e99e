#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Small study: every method from scratch on a few ImageNet classes, under one recipe and one budget.

python benchmarks/study.py --data data/real/tinyimagenet64c                  # on a CPU: 8 runs of 5 minutes, 2 cores
python benchmarks/study.py --data data/real/tinyimagenet64c --device cuda    # 64 classes, 30 epochs, 3 seeds

DeiT with patches of 8 px on images of 64 px (``{train,val}/<class>/*.JPEG``). A method is a folder of configs/ with a
config for the model; only the sizes, the classes and the learning rate are the study's. AdamW and its clipping are the
configs', with 10 % of linear warm-up, then a cosine to 1 %. Crops and flips come from a generator of their own: a seed
stands for the same images in the same order, whatever the method. Methods that a teacher guides have one of the study's
own, a ResNet-18 trained first, on the same images and by the same recipe without mixing; it has a row too.

The CPU's learning rate was set for the baseline alone, by trials of two epochs in bfloat16 on ten classes: top-1 after
the first epoch was 22 % at 5e-4 and 18 % at 1e-3, after the second 31 % at 5e-4. The GPU's is untried.

Measured on the validation images: top-1, ECE (15 equal bins), and top-1 with half of the patches black; in training:
loss, and images per second. Each run is a file of the work directory; a run that has one is not repeated.
"""

import argparse
import functools
import json
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from harness import common_arguments, find_methods, print_table, provenance, save
from mmengine.config import ConfigDict
from study_data import list_images
from study_train import PRECISIONS, TEACHER, TEACHER_SEED, needs_teacher, run_config, teacher_path, train

# Batches of 32 are faster than of 64 on a CPU, and twice the steps.
PRESETS: dict[str, dict[str, Any]] = dict(
    cpu=dict(
        classes=10,
        epochs=4,
        seed=[0, 1],
        methods=['baseline', 'cutmix', 'transmix', 'mixpro'],
        batch_size=32,
        lr=5e-4,
        precision='fp32',
        parallel=1,
    ),
    cuda=dict(
        classes=64, epochs=30, seed=[0, 1, 2], methods=None, batch_size=256, lr=1e-3, precision='bf16', parallel=3
    ),
)
# What it takes before methods may be ranked, and then only on this data.
ENOUGH = dict(classes=64, epochs=30, seeds=3)
METRICS = dict(
    top1='top-1, %', ece='ECE, %', top1_occluded='top-1, half occluded, %', images_per_s='training, images/s'
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    # Resolved, for several seeds take the place of one.
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_arguments(None)],
        conflict_handler='resolve',
    )
    parser.add_argument('--seeds', '--seed', dest='seed', type=int, nargs='+', metavar='SEED')
    parser.add_argument('--data', type=Path, required=True, help='folder with train/ and val/')
    parser.add_argument('--classes', type=int, help='the first ones, sorted by name')
    parser.add_argument('--epochs', type=int)
    parser.add_argument('--methods', nargs='+', help='folders of configs/; default on a GPU: all')
    parser.add_argument('--model', default='deit-t', help='stem of a DeiT among the configs; default: %(default)s')
    parser.add_argument('--batch-size', type=int)
    parser.add_argument('--lr', type=float, help='for this batch: it is not scaled')
    parser.add_argument('--precision', choices=list(PRECISIONS))
    parser.add_argument('--compile', action='store_true')
    parser.add_argument('--parallel', type=int, help='runs at a time, which share the device')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/study'), help='default: %(default)s')
    parser.epilog = f'Defaults by device: {PRESETS}'
    args = parser.parse_args(argv)
    device = torch.device(args.device).type
    if device not in PRESETS:
        parser.error(f'--device is one of {list(PRESETS)}, got {args.device}')
    for name, value in PRESETS[device].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name in ('classes', 'epochs', 'batch_size', 'parallel'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1, got {getattr(args, name)}')
    return args


def choose_methods(args: argparse.Namespace) -> list[str]:
    """The methods asked for, all by default.

    Raises:
        ValueError: If one has no config for the model.
    """
    known = find_methods(args.model)
    if unknown := sorted(set(args.methods or []) - set(known)):
        raise ValueError(f'No config of {args.model} for the methods {unknown}; those with one: {list(known)}.')
    return list(args.methods or known)


def describe(args: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """All that decides a run, as it comes out of JSON."""
    cfg = run_config(method, args)
    images = {split: list_images(args.data, split, args.classes) for split in ('train', 'val')}
    if list(images['train']) != list(images['val']):
        raise ValueError(
            f'{args.data}: the first {args.classes} classes of train, {list(images["train"])}, are not those of val, '
            f'{list(images["val"])}.'
        )
    settings = dict(
        method=method,
        seed=seed,
        device=torch.device(args.device).type,
        classes=list(images['train']),
        images={split: sum(map(len, found.values())) for split, found in images.items()},
        epochs=args.epochs,
        batch_size=args.batch_size,
        compile=args.compile,
        model=cfg.model,
        optim_wrapper=cfg.optim_wrapper,
        data_preprocessor=cfg.data_preprocessor,
    )
    return json.loads(json.dumps(ConfigDict(settings).to_dict()))


def run_path(args: argparse.Namespace, method: str, seed: int) -> Path:
    return args.work_dir / f'{method}_seed{seed}.json'


def is_done(args: argparse.Namespace, method: str, seed: int) -> bool:
    """Whether a run has its file; one that is cut short does not count.

    Raises:
        ValueError: If the file is of a run with other settings, or if these do not make a run.
    """
    asked = describe(args, method, seed)
    path = run_path(args, method, seed)
    try:
        found = json.loads(path.read_text()).get('settings')
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    if method == TEACHER and not teacher_path(args).is_file():
        return False
    if differing := _differences(found, asked):
        raise ValueError(
            f'{path} is of a run with other settings: {"; ".join(differing)}. Give the same settings, or another '
            '--work-dir.'
        )
    return True


def _differences(found: Any, asked: Any, name: str = '') -> list[str]:
    if isinstance(found, dict) and isinstance(asked, dict):
        keys = {**found, **asked}
        return [line for key in keys for line in _differences(found.get(key), asked.get(key), f'{name}.{key}')]
    return [] if found == asked else [f'{name.lstrip(".")} was {found}, now {asked}']


def run(args: argparse.Namespace, method_and_seed: tuple[str, int]) -> None:
    """Train once and write the run's file, whole or not at all."""
    method, seed = method_and_seed
    start = time.perf_counter()
    result = dict(
        settings=describe(args, method, seed),
        **train(args, method, seed),
        seconds=time.perf_counter() - start,
        parallel=args.parallel,
        provenance=provenance(argparse.Namespace(device=args.device, seed=seed)),
    )
    path = run_path(args, method, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix('.part')
    part.write_text(json.dumps(result, indent=1) + '\n')
    part.replace(path)


def run_all(args: argparse.Namespace, todo: list[tuple[str, int]]) -> None:
    """Runs that are not done yet, some at a time, with an equal share of the CPU threads."""
    if args.parallel == 1:
        for method_and_seed in todo:
            run(args, method_and_seed)
        return
    threads = max(len(os.sched_getaffinity(0)) // args.parallel, 1)
    # Spawned, for a forked process cannot use a GPU.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(args.parallel, context, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        for _ in pool.map(functools.partial(run, args), todo):
            pass


def aggregate(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean, standard deviation (of the sample; None for one run), number and values of the metrics, by method."""
    methods = dict.fromkeys(each['settings']['method'] for each in runs)
    results: dict[str, dict[str, Any]] = {}
    for method in methods:
        own = [each for each in runs if each['settings']['method'] == method]
        results[method] = {'seeds': [each['settings']['seed'] for each in own]}
        for metric in METRICS:
            values = [each[metric] for each in own]
            deviation = statistics.stdev(values) if len(values) > 1 else None
            results[method][metric] = dict(mean=statistics.mean(values), std=deviation, n=len(values), values=values)
        results[method]['curves'] = [each['curve'] for each in own]
        results[method]['commits'] = [each['provenance']['commit'] for each in own]
        results[method]['parallel'] = [each['parallel'] for each in own]
    return results


def size_of_study(args: argparse.Namespace) -> str:
    """Its size in words, and whether that is too small."""
    size = dict(classes=args.classes, epochs=args.epochs, seeds=len(set(args.seed)))
    words = ', '.join(f'{name}: {count}' for name, count in size.items())
    words += f', {args.parallel} runs at a time' if args.parallel > 1 else ''
    return words + ('; too small to rank methods' if any(size[name] < ENOUGH[name] for name in size) else '')


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    methods = choose_methods(args)
    wanted = list(dict.fromkeys((method, seed) for seed in args.seed for method in methods))
    if any(needs_teacher(method, args) for method in methods):
        wanted.append((TEACHER, TEACHER_SEED))
    todo = [each for each in wanted if not is_done(args, *each)]
    print(f'{len(wanted)} runs, {len(wanted) - len(todo)} of them done already in {args.work_dir}', flush=True)
    for guides in (True, False):  # the teacher before those it guides
        run_all(args, [each for each in todo if (each[0] == TEACHER) == guides])

    runs = [json.loads(run_path(args, *each).read_text()) for each in wanted]
    results, size = aggregate(runs), size_of_study(args)
    cell = '{mean:.1f}'.format
    rows = [
        {'method': method}
        | {
            name: cell(**values[metric]) + (f' ± {values[metric]["std"]:.1f}' if values[metric]['n'] > 1 else '')
            for metric, name in METRICS.items()
        }
        for method, values in results.items()
    ]
    print_table(f'{args.model}/8 at 64 px, mean ± standard deviation\n{size}', rows)
    shared = {name: value for name, value in runs[0]['settings'].items() if name not in ('method', 'model', 'seed')}
    save(args, dict(size=size, settings=shared, methods=results))


if __name__ == '__main__':
    main()
