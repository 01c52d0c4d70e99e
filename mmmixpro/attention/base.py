# Copyright (c) MMMixPro contributors.
"""Where a backbone looks: the attention of its class token over the patches, taken in passing.

Fused attention never returns its weights, so only the class token's row is computed again, from the
queries and keys of the forward pass that happens anyway: O(L) beside its O(L^2), without gradient.
"""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

PROVIDERS: dict[type[nn.Module], type['ClassAttention']] = {}


class ClassAttention(metaclass=ABCMeta):
    """How to take the class attention of one family of backbones.

    Subclass it for a family, and register it with :func:`register_class_attention`.

    Args:
        backbone: The backbone to read.

    Attributes:
        token_stride: Side in pixels of the image region behind one token of the attention map.

    Raises:
        ValueError: If this backbone, as configured, has no class attention.
    """

    token_stride: int

    @abstractmethod
    def __init__(self, backbone: Any): ...

    @abstractmethod
    def tap(self, size: tuple[int, int]) -> AbstractContextManager['AttentionTap']:
        """Take the attention of the forward pass inside the ``with`` block.

        Args:
            size: ``(H, W)`` of the images in pixels.
        """


class AttentionTap:
    """What a forward pass left behind.

    Attributes:
        map: ``(N, h, w)`` float32 attention of the class token over the token grid, averaged over
            heads, each map summing to 1; no gradient. None until the forward pass.
    """

    map: Tensor | None = None


def register_class_attention(backbone: type[nn.Module]) -> Callable:
    """Class decorator: use this :class:`ClassAttention` for ``backbone`` and its subclasses."""

    def register(provider: type[ClassAttention]) -> type[ClassAttention]:
        PROVIDERS[backbone] = provider
        return provider

    return register


def class_attention_of(backbone: nn.Module) -> ClassAttention:
    """The class attention of a backbone.

    Raises:
        ValueError: If its class (or a base of it) has no provider, or if it is configured without
            class attention.
    """
    for base in type(backbone).__mro__:
        if base in PROVIDERS:
            return PROVIDERS[base](backbone)
    known = sorted({cls.__name__ for cls in PROVIDERS})
    raise ValueError(
        f'{type(backbone).__name__} has no known class attention, which attention labels need. Backbones that '
        f"have: {known}. Use one of them, use area labels (type='MixClassifier'), or write a ClassAttention for "
        'yours and register it with mmmixpro.attention.register_class_attention.'
    )


@contextmanager
def class_attention(backbone: nn.Module, size: tuple[int, int]) -> Iterator[AttentionTap]:
    """Take the class attention of the forward pass inside the ``with`` block.

    Example:
        >>> with class_attention(model.backbone, images.shape[-2:]) as tap:
        ...     feats = model.backbone(images)
        >>> tap.map.shape
        torch.Size([8, 14, 14])

    Args:
        backbone: A backbone whose class has a registered :class:`ClassAttention`.
        size: ``(H, W)`` of the images in pixels.

    Raises:
        ValueError: If the backbone has no class attention.
    """
    with class_attention_of(backbone).tap(size) as tap:
        yield tap
