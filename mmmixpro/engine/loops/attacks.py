# Copyright (c) MMMixPro contributors.
"""Attacks that change each pixel by little, towards a greater loss, for :class:`AdversarialTestLoop`."""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmpretrain.registry import TASK_UTILS
from torch import Tensor, nn
from torch.nn import functional as F

Gradients = Callable[[Tensor], Tensor]


class Attack(metaclass=ABCMeta):
    """Makes adversarial images.

    Attributes:
        name: What stands for it in the results.
    """

    name: str

    @abstractmethod
    def __call__(self, images: Tensor, gradients: Gradients, indices: Sequence[int]) -> Tensor:
        """Attack a batch.

        Args:
            images: ``(N, C, H, W)`` float32 in [0, 255].
            gradients: Gives the gradient of each image's own loss with respect to its pixels.
            indices: The N images, as the dataset counts them; for what is drawn.

        Returns:
            Tensor: ``(N, C, H, W)`` in [0, 255].
        """

    @abstractmethod
    def describe(self) -> str:
        """Its strength, in words."""


@TASK_UTILS.register_module()
class PGD(Attack):
    r"""Projected gradient descent in the :math:`L_\infty` ball (https://arxiv.org/abs/1706.06083).

    .. math::
        x^0 = \Pi(x + u), \quad x^{t+1} = \Pi(x^t + \text{step} \cdot \text{sign} \nabla_x L(x^t)),
        \quad u \sim U[-\epsilon, \epsilon]

    where :math:`\Pi` projects onto the ball of radius :math:`\epsilon` around :math:`x` and onto [0, 255]. The defaults
    are those of RVT (https://arxiv.org/abs/2105.07926; ``RVT/engine.py`` of its released code): 5 steps of 0.5 within
    1, of 255, from a random start. Images are not rounded to integers.

    Args:
        eps: Radius in units of pixels, of 255; positive.
        step: Size of a step in units of pixels; positive.
        steps: Number of steps, at least 1.
        random_start: Whether to start from a random point of the ball; an image's depends on its index and ``seed``.
        seed: Not negative.
        name: What stands for it in the results.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        eps: float = 1.0,
        step: float = 0.5,
        steps: int = 5,
        random_start: bool = True,
        seed: int = 0,
        name: str = 'pgd',
    ):
        if not (0 < eps <= 255 and step > 0 and steps >= 1 and seed >= 0):
            raise ValueError(
                f'Expected 0 < eps <= 255, step > 0, steps >= 1 and seed >= 0, got eps={eps}, step={step}, '
                f'steps={steps}, seed={seed}. eps and step are in units of pixels: 1 stands for 1/255.'
            )
        self.eps = eps
        self.step = step
        self.steps = steps
        self.random_start = random_start
        self.seed = seed
        self.name = name

    def __call__(self, images: Tensor, gradients: Gradients, indices: Sequence[int]) -> Tensor:
        low, high = (images - self.eps).clamp(min=0), (images + self.eps).clamp(max=255)
        attacked = images
        if self.random_start:
            shape = images.shape[1:]
            draws = [np.random.default_rng((self.seed, i)).random(shape, np.float32) for i in indices]
            noise = torch.from_numpy(np.stack(draws)).to(images.device)
            attacked = (images + self.eps * (2 * noise - 1)).clamp(low, high)
        for _ in range(self.steps):
            attacked = (attacked + self.step * gradients(attacked).sign()).clamp(low, high)
        return attacked

    def describe(self) -> str:
        start = f', random start by seed {self.seed}' if self.random_start else ''
        return f'{self.name}: eps {self.eps:g}/255, {self.steps} steps of {self.step:g}/255{start}'


@TASK_UTILS.register_module()
class FGSM(PGD):
    r"""The fast gradient sign method (https://arxiv.org/abs/1412.6572): one step of :math:`\epsilon` from the image.

    .. math::
        x + \epsilon \cdot \text{sign} \nabla_x L(x)

    cut off at 0 and 255. The default is RVT's, see :class:`PGD`.

    Args:
        eps: In units of pixels, of 255; positive.
        name: What stands for it in the results.
    """

    def __init__(self, eps: float = 1.0, name: str = 'fgsm'):
        super().__init__(eps, step=eps, steps=1, random_start=False, name=name)

    def describe(self) -> str:
        return f'{self.name}: eps {self.eps:g}/255'


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter takes a gradient inside the ``with`` block; what takes one otherwise does so again after it."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def pixel_gradients(model: Any, labels: Tensor) -> Gradients:
    """Gradients with respect to pixels, through the normalisation of the model's data preprocessor.

    The loss is the cross entropy of the logits, whatever the head was trained by; all in the model's own precision,
    without autocast, for gradients of float16 vanish where the model is sure.

    Args:
        model: A classifier of mmpretrain, in eval mode.
        labels: ``(N,)`` int64.

    Returns:
        Gradients: Of images ``(N, C, H, W)``; they raise ValueError if a label is none of the model's classes.
    """
    low, high = int(labels.min()), int(labels.max())

    def gradients(images: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        with frozen(model), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            inputs = model.data_preprocessor(dict(inputs=images))['inputs']
            logits = logits_of(model, inputs)
            if low < 0 or high >= logits.size(1):
                raise ValueError(
                    f'Expected labels of the {logits.size(1)} classes of the model, found {low} to {high}: the test '
                    'set has other classes than the model.'
                )
            loss = F.cross_entropy(logits.float(), labels, reduction='sum')
            # Not torch.autograd.grad, which activation checkpointing may refuse.
            loss.backward()
        assert images.grad is not None
        return images.grad

    return gradients


def logits_of(model: Any, inputs: Tensor) -> Tensor:
    """The logits ``(N, num_classes)`` that a classifier of mmpretrain predicts by.

    Raises:
        ValueError: If its head gives something else.
    """
    scores = model(inputs, mode='tensor')
    if isinstance(scores, tuple):
        scores = sum(scores)  # Conformer predicts by the sum of its two
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        raise ValueError(
            f'Expected a classifier that gives one score for each class and image, and {type(model).__name__} with '
            f'{type(getattr(model, "head", None)).__name__} gives {type(scores).__name__}. Attack a single-label '
            'classifier.'
        )
    return scores
