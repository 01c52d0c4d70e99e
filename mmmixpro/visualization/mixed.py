# Copyright (c) MMMixPro contributors.
"""What the classifier is shown, where it looks, and how much each label counts for it."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from mmpretrain.models.utils import ClsDataPreprocessor
from torch import Tensor
from torch.nn import functional as F

from mmmixpro.attention import class_attention
from mmmixpro.labels.attention import attention_share
from mmmixpro.mixing import BatchMixer
from mmmixpro.models.classifiers import MixClassifier
from mmmixpro.structures import MixPlan

from .figure import STYLE, image_grid, to_png


@mpl.rc_context(STYLE)
def draw_mixed(
    classifier: MixClassifier,
    images: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    mixer: BatchMixer | None = None,
    seed: int = 0,
    in_memory: bool = False,
) -> bytes:
    """Draw a batch as the classifier sees it when mixed: a PNG of :func:`mixed_figure`, whose arguments it takes."""
    return to_png(mixed_figure(classifier, images, labels, class_names, mixer, seed, in_memory))


@torch.no_grad()
@mpl.rc_context(STYLE)
def mixed_figure(
    classifier: MixClassifier,
    images: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    mixer: BatchMixer | None = None,
    seed: int = 0,
    in_memory: bool = False,
) -> Figure:
    """Draw a batch as the classifier sees it when mixed, one column for each image.

    From top to bottom: the image, its partner, the mixed image with the borders between the two,
    and its class attention (brighter is more, on a scale for each map of its own). Below stand both
    classes, and how much the image's own counts: by area, by attention and, where the labels are
    progressive, the factor alpha between the two and the weight that results.

    The classifier is in eval mode meanwhile, and its mode and the global random state are
    afterwards as they were.

    Args:
        classifier: A classifier whose backbone has class attention.
        images: ``(N, 3, H, W)`` as its data preprocessor returns them, on its device.
        labels: ``(N,)`` int64 class indices.
        class_names: Name of each class.
        mixer: Draws what to mix; None takes the first mixer of the classifier's augments.
        seed: Seed of the draw.
        in_memory: Whether their data set brings its images along, see :func:`to_rgb`.

    Raises:
        TypeError: If the classifier is no :class:`MixClassifier`.
        ValueError: If there is no mixer, or if the backbone has no class attention.
    """
    mixer = _check(classifier, mixer)
    scores = F.one_hot(labels, classifier.data_preprocessor.num_classes).float()
    plan, mixed, attention, logits = _forward(classifier, images, scores, mixer, seed)
    weights = _weights(classifier, plan, attention, logits, scores)

    shown, shown_mixed = (to_rgb(batch, classifier.data_preprocessor, in_memory) for batch in (images, mixed))
    names = [shorten(class_names[label]) for label in labels.tolist()]
    height, width = plan.size
    figure, axes = image_grid([height / width] * 4, len(images))
    for i, (j, column) in enumerate(zip(plan.partner.tolist(), axes.T, strict=True)):
        for ax, image in zip(column, (shown[i], shown[j], shown_mixed[i], shown_mixed[i]), strict=True):
            ax.imshow(image, interpolation='nearest')
        column[2].add_collection(borders(mask_of(plan, i), plan.cell, plan.size))
        show_attention(column[3], attention[i].cpu().numpy(), plan.size)
        lines = [names[i], f'+ {names[j]}', *(f'{name} {values[i]:.2f}' for name, values in weights.items())]
        column[3].set_xlabel('\n'.join(lines), linespacing=1.35)
    for ax, name in zip(axes[:, 0], ('image', 'partner', 'mixed', 'attention'), strict=True):
        ax.set_ylabel(name)
    return figure


@torch.no_grad()
def batch_alpha(classifier: MixClassifier, images: Tensor, labels: Tensor, seed: int = 0) -> list[float]:
    """How far attention is trusted for each image of a mini-batch (Fig. 2b of MixPro), in eval mode.

    Args:
        classifier: A classifier with progressive labels.
        images: ``(N, 3, H, W)`` as its data preprocessor returns them.
        labels: ``(N,)`` int64 class indices.
        seed: Seed of the draw.

    Raises:
        TypeError: If the classifier is no :class:`MixClassifier`.
        ValueError: If its labels have no alpha, or if it has no mixer.
    """
    mixer = _check(classifier, None)
    scores = F.one_hot(labels, classifier.data_preprocessor.num_classes).float()
    plan, _, attention, logits = _forward(classifier, images, scores, mixer, seed)
    alpha = getattr(classifier.labels(plan, attention, logits, scores), 'alpha', None)
    if alpha is None:
        raise ValueError(f'{type(classifier.labels).__name__} have no alpha. Give a config with PALClassifier.')
    return alpha.tolist()


def _check(classifier: MixClassifier, mixer: BatchMixer | None) -> BatchMixer:
    """The mixer, or the first one of the classifier, which is one of ours."""
    if not isinstance(classifier, MixClassifier):
        raise TypeError(f'Drawing expects a MixClassifier or PALClassifier, got {type(classifier).__name__}.')
    if mixer is None and not classifier.mixers:
        raise ValueError(
            "Expected a mixer among the classifier's train_cfg.augments, found none. Give one: "
            'draw_mixed(..., mixer=MixProBatchAugment(mask_size=...)).'
        )
    return classifier.mixers[0] if mixer is None else mixer


def _forward(
    classifier: MixClassifier, images: Tensor, scores: Tensor, mixer: BatchMixer, seed: int
) -> tuple[MixPlan, Tensor, Tensor, Tensor]:
    """Plan, mixed images, their class attention and their logits, in eval mode."""
    was_training = classifier.training
    classifier.eval()
    try:
        with random_state(seed):
            plan = mixer.draw(images, classifier, scores)
            mixed = plan.mix_images(images)
            with class_attention(classifier.backbone, plan.size) as tap:
                feats = classifier.extract_feat(mixed)
            logits = classifier.head(feats).float()
    finally:
        classifier.train(was_training)
    assert tap.map is not None
    return plan, mixed, tap.map, logits


@contextmanager
def random_state(seed: int) -> Iterator[None]:
    """Seed every generator that a mixer or a model may draw from, then put them back."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _weights(
    classifier: MixClassifier, plan: MixPlan, attention: Tensor, logits: Tensor, scores: Tensor
) -> dict[str, list[float]]:
    """How much each image's own label counts, by the classifier's own label policy."""
    policy = classifier.labels
    labels = policy(plan, attention, logits, scores)
    share = getattr(labels, 'lam_attn', None)
    if share is None:
        share = attention_share(plan, attention, nearest=getattr(policy, 'nearest', False))
    weights = {'λ area': plan.lam, 'λ attn': share}
    alpha = getattr(labels, 'alpha', None)
    if alpha is not None:
        weights['α'] = alpha
    weights['λ'] = labels[0]
    return {name: values.tolist() for name, values in weights.items()}


def to_rgb(images: Tensor, preprocessor: ClsDataPreprocessor, in_memory: bool = False) -> np.ndarray:
    """``(N, H, W, 3)`` uint8 RGB of images that the data preprocessor normalised.

    Args:
        images: ``(N, 3, H, W)``.
        preprocessor: What normalised them, and turned their channels or not.
        in_memory: Whether they came from a data set that has them in memory, which is in RGB (CIFAR); files are read
            in BGR.
    """
    if preprocessor._enable_normalize:
        images = images * preprocessor.std + preprocessor.mean
    if preprocessor.to_rgb == in_memory:
        images = images.flip(1)
    return images.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def mask_of(plan: MixPlan, i: int) -> np.ndarray:
    """``(gh, gw)`` mask of image ``i``."""
    return plan.mask.expand(len(plan.partner), -1, -1)[i].cpu().numpy()


def shorten(name: str) -> str:
    """A longer name would run into that of the next column."""
    return name if len(name) <= 17 else f'{name[:16]}…'


def show_attention(ax: Axes, attention: np.ndarray, size: tuple[int, int]) -> None:
    """Lay an attention map ``(h, w)`` over an image of ``size`` pixels."""
    ax.imshow(
        attention,
        vmin=0,
        # Even attention stands half-way up the scale, not at its end.
        vmax=max(attention.max(), 2 * attention.mean()),
        cmap='inferno',
        alpha=0.65,
        interpolation='bicubic',
        extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5),
    )


def borders(mask: np.ndarray, cell: int, size: tuple[int, int]) -> LineCollection:
    """The edges of mask cells where one image meets the other, or meets it in another share."""
    segments = []
    for axis in (0, 1):
        # A border of two cells along `axis` lies at the start of the second and runs across.
        for start in np.argwhere(np.diff(mask, axis=axis)):
            start[axis] += 1
            end = start.copy()
            end[1 - axis] += 1
            segments.append(np.minimum([start * cell, end * cell], size)[:, ::-1] - 0.5)
    return LineCollection(segments, colors='white', linewidths=1.2)
