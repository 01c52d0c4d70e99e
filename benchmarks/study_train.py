# Copyright (c) MMMixPro contributors.
"""One run of the small study: a method's config at 64 px, trained and measured."""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from harness import BASELINE, build_classifier, find_methods, synchronize
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample
from study_data import IMAGE_SIZE, crop_and_flip, load_images, occlude
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from mmmixpro.engine.hooks import compile_parts

PATCH_SIZE = 8
WARMUP, LAST_LR = 0.1, 0.01  # of the steps, of the learning rate
BLOCK = 10  # steps timed in one go, so that a GPU is not kept waiting for the host
PRECISIONS = dict(fp32=None, bf16='bfloat16')


# What guides the methods that need a teacher: trained before them, on the same images, by the same recipe.
TEACHER = 'teacher'
TEACHER_SEED = 0
TEACHER_NET = dict(
    backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=32, base_channels=32),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', in_channels=256),
)


def study_config(path: Path, args: argparse.Namespace) -> Config:
    """A method's config with patches of 8 px in images of 64 px, and the optimizer of the study.

    Mask cells keep their share of the image, in whole tokens: 64 px in 224 px become 16 px in 64 px, 4 x 4 cells in
    both; so does the least block of TokenMix. Teachers give way to the study's own, a ResNet-18 without mixing.

    Raises:
        ValueError: If the backbone has no patch size to set.
    """
    cfg = Config.fromfile(path)
    backbone = cfg.model.backbone
    if 'patch_size' not in backbone:
        raise ValueError(f'{backbone.type} has no patch_size for images of {IMAGE_SIZE} px: set --model deit-t, or so.')
    for part in _dicts(cfg.model):
        if 'mask_size' in part:
            tokens = round(part['mask_size'] * IMAGE_SIZE / backbone.img_size / PATCH_SIZE)
            part['mask_size'] = max(tokens, 1) * PATCH_SIZE
        if 'min_block_tokens' in part:
            part['min_block_tokens'] = round(part['min_block_tokens'] * ((IMAGE_SIZE / PATCH_SIZE) / (224 / 16)) ** 2)
        if 'teacher' in part:
            part['teacher'] = teacher_config('backbone' in part['teacher'], args)
    backbone.update(img_size=IMAGE_SIZE, patch_size=PATCH_SIZE)
    cfg.model.head.num_classes = args.classes
    # The images are RGB already.
    cfg.data_preprocessor.update(num_classes=args.classes, to_rgb=False)
    cfg.optim_wrapper.update(
        type='AsyncOptimWrapper', dtype=PRECISIONS[args.precision], constructor='MergedOptimWrapperConstructor'
    )
    cfg.optim_wrapper.optimizer.update(lr=args.lr, fused=True)
    return cfg


def run_config(method: str, args: argparse.Namespace) -> Config:
    """The config of a run: a method's, or the teacher's."""
    methods = find_methods(args.model)
    cfg = study_config(methods[BASELINE if method == TEACHER else method], args)
    if method == TEACHER:
        for part, network in teacher_net(args).items():  # for `update` would merge
            cfg.model[part] = network
    return cfg


def teacher_net(args: argparse.Namespace) -> dict[str, Any]:
    return dict(TEACHER_NET, head=dict(TEACHER_NET['head'], num_classes=args.classes))


def teacher_path(args: argparse.Namespace) -> Path:
    return args.work_dir / f'{TEACHER}_seed{TEACHER_SEED}.pth'


def teacher_config(whole: bool, args: argparse.Namespace) -> dict[str, Any]:
    """The study's teacher with the weights of its run: a classifier, or its backbone alone."""
    weights = dict(type='Pretrained', checkpoint=str(teacher_path(args)), strict=True)
    if whole:
        return dict(type='ImageClassifier', init_cfg=weights, **teacher_net(args))
    return dict(TEACHER_NET['backbone'], init_cfg=dict(weights, prefix='backbone.'))


def needs_teacher(method: str, args: argparse.Namespace) -> bool:
    return method != TEACHER and any('teacher' in part for part in _dicts(run_config(method, args).model))


def _dicts(value: Any) -> Iterator[dict]:
    """All dicts in a config, at any depth."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _dicts(item)


def learning_rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step: a linear warm-up, then a cosine."""
    warmup = max(round(WARMUP * steps), 1)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return LAST_LR + (1 - LAST_LR) * (1 + math.cos(math.pi * progress)) / 2


def train(args: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """Train a method from scratch and measure it.

    Returns:
        dict[str, Any]: ``top1``, ``ece`` and ``top1_occluded`` in percent, ``images_per_s`` of training, and
        ``curve``: loss and top-1 of each epoch.

    Raises:
        ValueError: If there are fewer images than one batch takes.
    """
    device = torch.device(args.device)
    # The initialisation of each of 150 tensors is of no interest here.
    MMLogger.get_current_instance().setLevel('WARNING')
    images, labels = load_images(args.data, 'train', args.classes, device)
    val_images, val_labels = load_images(args.data, 'val', args.classes, device)
    steps = len(images) // args.batch_size
    if not steps:
        raise ValueError(f'{len(images)} training images are less than a batch: set --batch-size to that at most.')

    cfg = run_config(method, args)
    model: BaseModel = build_classifier(cfg, device, seed)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optim_wrapper.optimizer, lambda step: learning_rate(step, args.epochs * steps)
    )
    if args.compile:
        torch._dynamo.reset()  # a run of its own
        compile_parts(model, dynamic=False)
    # Of its own: what a method draws does not change which images come when.
    generator = torch.Generator().manual_seed(seed)

    def step(indices: Tensor) -> Tensor:
        samples = [DataSample().set_gt_label(label) for label in labels[indices]]
        batch = dict(inputs=crop_and_flip(images, indices, generator), data_samples=samples)
        loss = model.train_step(batch, optim_wrapper)['loss'].detach()
        schedule.step()
        return loss

    seconds: list[float] = []
    curve: list[dict[str, float]] = []
    for epoch in range(args.epochs):
        order = torch.randperm(len(images), generator=generator)[: steps * args.batch_size].split(args.batch_size)
        losses = torch.cat([timed(step, order[first : first + BLOCK], seconds) for first in range(0, steps, BLOCK)])
        probs = predict(model, val_images)
        top1 = accuracy(probs, val_labels)
        curve.append(dict(loss=losses.mean().item(), top1=top1))
        speed = args.batch_size / statistics.median(seconds[1:] or seconds)
        print(
            f'{method} seed {seed}  epoch {epoch + 1}/{args.epochs}  loss {curve[-1]["loss"]:.3f}  '
            f'top-1 {top1:.1f} %  {speed:.0f} images/s',
            flush=True,
        )

    if method == TEACHER:
        args.work_dir.mkdir(parents=True, exist_ok=True)
        torch.save(dict(state_dict=model.state_dict()), teacher_path(args))
    ece = multiclass_calibration_error(probs, val_labels, num_classes=args.classes, n_bins=15, norm='l1')
    occluded = predict(model, occlude(val_images, PATCH_SIZE))
    return dict(
        top1=top1,
        ece=100 * ece.item(),
        top1_occluded=accuracy(occluded, val_labels),
        images_per_s=speed,
        curve=curve,
    )


def timed(step: Callable[[Tensor], Tensor], batches: tuple[Tensor, ...], seconds: list[float]) -> Tensor:
    """Losses of a block of steps; appends the seconds that each took on average."""
    synchronize()
    start = time.perf_counter()
    losses = torch.stack([step(indices) for indices in batches])
    synchronize()
    seconds.append((time.perf_counter() - start) / len(batches))
    return losses


@torch.no_grad()
def predict(model: BaseModel, images: Tensor, batch_size: int = 250) -> Tensor:
    """Class probabilities ``(N, num_classes)`` of uint8 images, in float32 on the host; back to training after."""
    model.eval()
    logits = [
        model(**model.data_preprocessor(dict(inputs=batch), training=False), mode='tensor')
        for batch in images.split(batch_size)
    ]
    model.train()
    return torch.cat(logits).float().softmax(1).cpu()


def accuracy(probs: Tensor, labels: Tensor) -> float:
    """Percent."""
    return 100 * (probs.argmax(1) == labels).sum().item() / len(labels)
