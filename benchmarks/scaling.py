#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""How the cost of mixing and labels grows with the batch, the images and the number of classes.

python benchmarks/scaling.py --figure docs/images/scaling.svg                                  # a minute on 2 cores

Times what a method adds to a step other than the class row of attention: drawing and applying the
plan, then labels from given attention and logits. One size is varied at a time from 64 images of
224 px and 1000 classes. mmpretrain's loss stands beside it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import (
    build_classifier,
    common_arguments,
    find_methods,
    interleave,
    own_mixers,
    print_table,
    save,
    spread,
    timing_config,
)
from matplotlib.figure import Figure
from mmpretrain.models.losses import LabelSmoothLoss

from mmmixpro.mixing import BatchMixer

START = dict(batch=64, side=224, classes=1000)
SIZES = dict(batch=[64, 128, 192, 256], side=[224, 288, 352, 416], classes=[100, 1000, 4000, 16000])
LOSS = 'the loss alone'
AXES = dict(batch='images', side='pixels of an image', classes='classes')


def cost(classifier: Any, mixer: BatchMixer, batch: int, side: int, classes: int, device: torch.device) -> Callable:
    """Mixing and labels of one batch."""
    images = torch.randn(batch, 3, side, side, device=device)
    scores = torch.zeros(batch, classes, device=device)
    scores[:, 0] = 1
    # What guides a mixer has as many classes as the model, however many are labelled.
    guiding = torch.zeros(batch, classifier.head.num_classes, device=device)
    guiding[:, 0] = 1
    logits = torch.randn(batch, classes, device=device)
    attention = torch.rand(batch, side // 16, side // 16, device=device)
    attention /= attention.sum((1, 2), keepdim=True)

    def mix_and_label() -> None:
        plan = mixer.draw(images, classifier, guiding)
        plan.mix_images(images)
        plan.mix_scores(scores, *classifier.labels(plan, attention, logits, scores))

    return mix_and_label


def loss(batch: int, classes: int, device: torch.device) -> Callable:
    """mmpretrain's loss with label smoothing, forward and backward."""
    logits = torch.randn(batch, classes, device=device, requires_grad=True)
    target = torch.full((batch, classes), 1 / classes, device=device)
    criterion = LabelSmoothLoss(label_smooth_val=0.1, mode='original')
    return lambda: criterion(logits, target).backward()


def measure(args: argparse.Namespace) -> list[dict]:
    device = torch.device(args.device)
    classifiers = {name: build_classifier(timing_config(path), device) for name, path in find_methods('deit-t').items()}
    rows = []
    for axis, sizes in SIZES.items():
        steps: dict[tuple, Callable] = {}
        for size in sizes:
            at = {**START, 'batch': round(args.scale * START['batch'])}
            at[axis] = round(args.scale * size) if axis == 'batch' else size
            for name, classifier in classifiers.items():
                for mixer in own_mixers(classifier)[:1]:
                    steps[name, size] = cost(classifier, mixer, **at, device=device)
            steps[LOSS, size] = loss(at['batch'], at['classes'], device)
        times = interleave(steps, args.rounds, 3, args.seed)
        rows += [dict(axis=axis, method=name, size=size, seconds=spread(times[name, size])) for name, size in steps]
    return rows


def draw(rows: list[dict], path: Path) -> None:
    """One panel for each size that was varied; a line through the origin is linear growth."""
    figure = Figure(figsize=(9, 3), layout='constrained')
    for ax, (axis, label) in zip(figure.subplots(1, len(AXES)), AXES.items(), strict=True):
        for name in dict.fromkeys(row['method'] for row in rows):
            chosen = [row for row in rows if (row['axis'], row['method']) == (axis, name)]
            sizes = np.array([row['size'] for row in chosen])
            low, middle, high = (
                np.array([1e3 * row['seconds'][key] for row in chosen]) for key in ('q1', 'median', 'q3')
            )
            style = dict(color='#9aa5b1', linestyle='--') if name == LOSS else {}
            ax.errorbar(
                sizes**2 if axis == 'side' else sizes,
                middle,
                [middle - low, high - middle],
                marker='o',
                ms=3,
                label=name,
                **style,
            )
        ax.set(xlabel=label, ylabel='ms')
        ax.set_xlim(left=0)
        ax.set_ylim(bottom=0)
        ax.spines[['top', 'right']].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f'Figure:  {path}')


def main() -> None:
    parser = common_arguments(__doc__)
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--scale', type=float, default=1.0, help='of the batch sizes, for small machines')
    parser.add_argument('--figure', type=Path, help='picture of the results, .svg or .png')
    args = parser.parse_args()
    rows = measure(args)
    for axis, sizes in SIZES.items():
        methods = dict.fromkeys(row['method'] for row in rows)
        found = {(row['method'], row['size']): 1e3 * row['seconds']['median'] for row in rows if row['axis'] == axis}
        print_table(
            f'ms by {axis}',
            [{'method': name, **{str(size): f'{found[name, size]:.2f}' for size in sizes}} for name in methods],
        )
    save(args, dict(start=START, scale=args.scale, rows=rows))
    if args.figure:
        draw(rows, args.figure)


if __name__ == '__main__':
    main()
