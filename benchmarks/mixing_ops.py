#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Each mixer alone, against the bytes that it must move and against the stock CutMix.

python benchmarks/mixing_ops.py                                         # 64 images of 224 px, a minute on 2 cores
python benchmarks/mixing_ops.py --device cuda --batch-size 128

The mixers are those of all configs of the model. What must be moved is two batches read and one
written; the time for that follows from a copy of the batch (one read, one written) timed in the same
rounds. mmpretrain's CutMix and timm's write into their input, so they mix a copy: the loader's batch
is not theirs to change.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from harness import (
    build_classifier,
    common_arguments,
    find_methods,
    interleave,
    own_mixers,
    print_table,
    ratios,
    save,
    spread,
    timing_config,
)
from mmpretrain.models import CutMix
from timm.data.mixup import Mixup as TimmMixup
from torch import Tensor

from mmmixpro.mixing import BatchMixer


def parse_args() -> argparse.Namespace:
    parser = common_arguments(__doc__)
    parser.add_argument('--model', default='deit-t', help='whose configs are read; default: %(default)s')
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=30)
    return parser.parse_args()


def our_mixers(model: str, device: torch.device) -> dict[str, Callable[[Tensor, Tensor], Any]]:
    """Mixers of this package in the configs of a model, by class name, each at hand of its own model."""
    found: dict[str, Callable[[Tensor, Tensor], Any]] = {}
    for path in find_methods(model).values():
        cfg = timing_config(path)
        classifier = build_classifier(cfg, device)
        for mixer in own_mixers(classifier):
            found.setdefault(type(mixer).__name__, draw_and_apply(mixer, classifier))
    return found


def draw_and_apply(mixer: BatchMixer, classifier: torch.nn.Module) -> Callable[[Tensor, Tensor], Any]:
    def mix(images: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        plan = mixer.draw(images, classifier, scores)
        return plan.mix_images(images), plan.mix_scores(scores, plan.lam, 1 - plan.lam)

    return mix


def stock(num: int, device: torch.device) -> dict[str, Callable[[Tensor, Tensor], Any]]:
    """CutMix of mmpretrain and of timm."""
    theirs = TimmMixup(mixup_alpha=0.0, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=1000)
    labels = torch.arange(num, device=device)
    ours = CutMix(alpha=1.0)
    return {
        'mmpretrain CutMix': lambda images, scores: ours.mix(images.clone(), scores),
        'timm CutMix': lambda images, scores: theirs(images.clone(), labels),
    }


def main() -> None:
    args = parse_args()
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    images = torch.randn(args.batch_size, 3, 224, 224, device=device)
    scores = torch.eye(1000, device=device)[torch.arange(args.batch_size) % 1000]
    mixers = {'copy': lambda images, scores: images.clone(), **stock(len(images), device)}
    mixers |= our_mixers(args.model, device)
    steps = {name: (lambda mix=mix: mix(images, scores)) for name, mix in mixers.items()}

    times = interleave(steps, args.rounds, 3, args.seed)
    to_cutmix = ratios(times, 'mmpretrain CutMix')
    # A copy reads one batch and writes one; mixing reads two.
    to_bytes = {
        name: [own / (1.5 * copy) for own, copy in zip(times[name], times['copy'], strict=True)] for name in times
    }
    rows = [
        dict(
            mixer=name,
            seconds=spread(times[name]),
            ratio_to_cutmix=to_cutmix[name],
            ratio_to_bytes_moved=spread(to_bytes[name]),
            times=times[name],
        )
        for name in times
    ]
    print_table(
        f'{args.batch_size} float32 images of 224 px, {images.nbytes / 1e6:.0f} MB',
        [
            {
                'mixer': row['mixer'],
                'ms': '{median:.1f} [{q1:.1f}, {q3:.1f}]'.format(**{k: 1e3 * v for k, v in row['seconds'].items()}),
                'time / mmpretrain CutMix': '{median:.2f} [{q1:.2f}, {q3:.2f}]'.format(**row['ratio_to_cutmix']),
                'time / bytes to move': '{median:.2f} [{q1:.2f}, {q3:.2f}]'.format(**row['ratio_to_bytes_moved']),
            }
            for row in rows
        ],
    )
    save(args, dict(model=args.model, batch_size=args.batch_size, image_bytes=images.nbytes, rows=rows))


if __name__ == '__main__':
    main()
