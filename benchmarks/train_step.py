#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Time and memory of the training step of every method, against no mixing (Table 2's speed column).

python benchmarks/train_step.py                                      # DeiT-T on a CPU, about 3 minutes on 2 cores
python benchmarks/train_step.py --device cuda --model deit-s pvt-s --batch-size 128 --precision bf16 --compile off on

A method is a folder of configs/ that has a config for the model; ``baseline`` is mmpretrain's own
ImageClassifier without mixing. Methods take their steps in turn, and each step is compared with the
baseline's of the same round. A step is mmengine's ``train_step``, from uint8 images on the device and
labels on the host to the optimizer's update. A method draws its mixers as its recipe says; with
``--own-mixer`` every batch is mixed by its own, so that a second pass on half of the batches is not
averaged away. ``timm`` is timm's model with its Mixup (and CutMix) in a plain loop, as an outside
reference. A ratio also holds what our data preprocessor saves over the baseline's, which makes labels
one-hot image by image. Memory is the peak within a step above what stays between steps.
"""

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import timm
import torch
from harness import (
    BASELINE,
    build_classifier,
    common_arguments,
    find_methods,
    find_variant,
    interleave,
    label_batches,
    print_table,
    ratios,
    save,
    spread,
    timing_config,
)
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mmmixpro.engine.hooks import compile_parts

TIMM = {'deit-t': 'deit_tiny_patch16_224', 'deit-s': 'deit_small_patch16_224', 'deit-b': 'deit_base_patch16_224'}
DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
OPTIM_WRAPPERS: dict[str, dict] = dict(
    fp32=dict(type='OptimWrapper'),
    bf16=dict(type='AsyncOptimWrapper', dtype='bfloat16'),
    fp16=dict(type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic'),
)
MEMORY_STEPS = 4
Step = Callable[[], Any]


def parse_args() -> argparse.Namespace:
    parser = common_arguments(__doc__)
    parser.add_argument('--model', nargs='+', default=['deit-t'], help='stems of configs; default: %(default)s')
    parser.add_argument(
        '--methods',
        nargs='+',
        help='folders of configs/ beside the baseline, or variants such as tokenmix/precomputed; default: all folders',
    )
    parser.add_argument(
        '--own-mixer', action='store_true', help="mix every batch by the method's own mixer, none by Mixup beside it"
    )
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--precision', nargs='+', choices=list(OPTIM_WRAPPERS), default=['fp32'])
    parser.add_argument('--compile', nargs='+', choices=['off', 'on'], default=['off'])
    parser.add_argument('--rounds', type=int, default=24)
    parser.add_argument('--warmup', type=int, default=4, help='rounds before; compiled models take 12 at least')
    args = parser.parse_args()
    if 'fp16' in args.precision and torch.device(args.device).type == 'cpu':
        parser.error('--precision fp16 needs a GPU (its loss scaling does); on a CPU take fp32 or bf16.')
    return args


def our_step(cfg: Config, images: Tensor, precision: str, compiled: bool, seed: int, count: int) -> Step:
    """The step that mmengine's runner takes with this config."""
    model = build_classifier(cfg, images.device, seed)
    if compiled:
        compile_parts(model, dynamic=False, fullgraph=True)
    optim_wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, **OPTIM_WRAPPERS[precision]))
    stream = label_batches(len(images), cfg.data_preprocessor.num_classes, count)
    return lambda: model.train_step(dict(inputs=images, data_samples=next(stream)), optim_wrapper)


def timm_step(name: str, images: Tensor, precision: str, compiled: bool) -> Step:
    """The same recipe as timm's training script takes it: Mixup and CutMix, half of the batches each."""
    device = images.device
    model: Any = timm.create_model(name, drop_path_rate=0.1).to(device).train()
    if compiled:
        model.compile(dynamic=False, fullgraph=True)
    mix = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=1000)
    criterion = SoftTargetCrossEntropy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == 'fp16')
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in ((124, 116, 104), (58, 57, 57)))
    target = torch.arange(len(images), device=device)

    def step() -> None:
        inputs, mixed = mix((images.float() - mean) / std, target)
        with torch.autocast(device.type, DTYPES[precision], enabled=precision != 'fp32'):
            loss = criterion(model(inputs), mixed)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def peak_memory(step: Step, device: torch.device) -> int:
    """Bytes that a step holds at its peak above what stays between steps."""
    if device.type == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    # The public events leave out what operators allocate within.
    events: Any = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == '[memory]')
    return max(itertools.accumulate(size for _, size in changes))


def measure(args: argparse.Namespace, model: str, precision: str, compiled: bool) -> dict:
    """Every method with one model, precision and mode."""
    torch._dynamo.reset()  # graphs of other settings count towards a limit
    methods = find_methods(model)
    variants = {name: find_variant(model, name) for name in args.methods or [] if '/' in name}
    unknown = set(args.methods or []) - set(methods) - set(variants)
    if unknown:
        raise ValueError(f'--methods {sorted(unknown)}: configs/ has {list(methods)} for {model}.')
    chosen = {name: path for name, path in methods.items() if name in {BASELINE, *(args.methods or methods)}}
    chosen |= variants
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    images = torch.randint(0, 256, (args.batch_size, 3, 224, 224), dtype=torch.uint8).to(device)
    warmup = max(args.warmup, 12 if compiled else 0)
    count = warmup + args.rounds + MEMORY_STEPS
    steps = {
        name: our_step(timing_config(path, args.own_mixer), images, precision, compiled, args.seed, count)
        for name, path in chosen.items()
    }
    if model in TIMM:
        steps['timm'] = timm_step(TIMM[model], images, precision, compiled)
    times = interleave(steps, args.rounds, warmup, args.seed)
    compared = ratios(times, BASELINE)
    rows = [
        dict(
            method=name,
            images_per_second=args.batch_size / spread(times[name])['median'],
            seconds=spread(times[name]),
            ratio=compared[name],
            peak_bytes=max(peak_memory(step, device) for _ in range(MEMORY_STEPS)),
            times=times[name],
        )
        for name, step in steps.items()
    ]
    mode = 'compiled' if compiled else 'eager'
    return dict(
        model=model, batch_size=args.batch_size, precision=precision, mode=mode, own_mixer=args.own_mixer, rows=rows
    )


def show(result: dict) -> None:
    print_table(
        '{model}, batch {batch_size}, {precision}, {mode}'.format(**result),
        [
            {
                'method': row['method'],
                'images/s': f'{row["images_per_second"]:.1f}',
                'step, ms': '{median:.1f} [{q1:.1f}, {q3:.1f}]'.format(
                    **{k: 1e3 * v for k, v in row['seconds'].items()}
                ),
                'time / baseline': '{median:.3f} [{q1:.3f}, {q3:.3f}]'.format(**row['ratio']),
                'peak, MB': f'{row["peak_bytes"] / 1e6:.0f}',
            }
            for row in result['rows']
        ],
    )


def main() -> None:
    args = parse_args()
    settings = itertools.product(args.model, args.precision, args.compile)
    results = []
    for model, precision, mode in settings:
        results.append(measure(args, model, precision, mode == 'on'))
        show(results[-1])
    save(args, dict(results=results))


if __name__ == '__main__':
    main()
