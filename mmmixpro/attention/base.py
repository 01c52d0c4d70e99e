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

PROVIDERS: dict[type[nn.Module], Callable[[Any], 'ClassAttention']] = {}
REASONS: dict[type[nn.Module], str] = {}  # of backbones that have none


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


class PatchAttention(ClassAttention):
    """:class:`ClassAttention` that tells of the patches too, as :class:`~mmmixpro.mixing.SMMix` needs it."""

    @abstractmethod
    def patch_tap(self, size: tuple[int, int]) -> AbstractContextManager['AttentionTap']:
        """Take how much the patches look at each patch, in the forward pass inside the ``with`` block.

        Args:
            size: ``(H, W)`` of the images in pixels.
        """

    @abstractmethod
    def with_tokens(self, images: Tensor) -> tuple[tuple, Tensor]:
        """One forward pass of the backbone that gives up its patch tokens beside its features.

        Args:
            images: ``(N, C, H, W)``.

        Returns:
            tuple[tuple, Tensor]: The features as ``backbone(images)`` returns them, and the patch tokens
            ``(N, h * w, C)`` as they stand beside the class token that the head is given.
        """


class AttentionTap:
    """What a forward pass left behind.

    Attributes:
        map: ``(N, h, w)`` float32 attention over the token grid, averaged over heads, each map summing to
            1; no gradient. None until the forward pass.
    """

    map: Tensor | None = None


def register_class_attention(backbone: type[nn.Module]) -> Callable:
    """Class decorator: use this :class:`ClassAttention` for ``backbone`` and its subclasses.

    Every method of MMMixPro then works with that backbone. Where its attention module holds the function that
    attends as ``self.scaled_dot_product_attention``, and calls it with queries and keys ``(N, heads, L, d)``, the class
    token first, three attributes are all that :class:`~mmmixpro.attention.ClassRow` needs; elsewhere, override
    its ``watch``. For SMMix, make it a :class:`PatchAttention` too.

    Example:
        >>> from mmmixpro.attention import ClassRow, outputs_of, register_class_attention
        >>>
        >>> @register_class_attention(MyBackbone)
        ... class MyClassAttention(ClassRow):
        ...     def __init__(self, backbone):
        ...         self.attention = backbone.blocks[-1].attn  # what holds scaled_dot_product_attention
        ...         self.token_stride = 16  # pixels along the side of a token
        ...         self.num_extra_tokens = 1  # before the patches: the class token
        >>>
        >>> @register_class_attention(MyOtherBackbone)  # that calls torch's own function
        ... class MyOtherClassAttention(MyClassAttention):
        ...     def watch(self, record):  # called with what two of its modules give: queries and keys
        ...         return outputs_of(self.attention.q_norm, self.attention.k_norm, then=record)

    Put it into a module that ``custom_imports`` of your config names.
    """

    def register(provider: Callable[[Any], ClassAttention]) -> Callable[[Any], ClassAttention]:
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
        if base in REASONS:
            raise no_class_attention(type(backbone).__name__, f' ({REASONS[base]})')
    raise no_class_attention(type(backbone).__name__)


def no_class_attention(name: str, reason: str = '') -> ValueError:
    """The error for a backbone whose class attention is not known."""
    known = sorted({cls.__name__ for cls in PROVIDERS})
    return ValueError(
        f'{name} has no known class attention{reason}, which attention labels and SMMix need. '
        f"Backbones that have: {known}. Use one of them, use area labels (type='MixClassifier') and a mixer that needs "
        'none, or write a ClassAttention for yours and register it with '
        'mmmixpro.attention.register_class_attention, whose docstring shows how.'
    )


def patch_attention_of(backbone: nn.Module) -> PatchAttention:
    """The attention between patches of a backbone.

    Raises:
        ValueError: As :func:`class_attention_of` does, and if the provider knows class attention only.
    """
    provider = class_attention_of(backbone)
    if isinstance(provider, PatchAttention):
        return provider
    raise ValueError(
        f'The {type(provider).__name__} of {type(backbone).__name__} gives class attention only, and SMMix needs the '
        'attention between patches, and their tokens. Make it a mmmixpro.attention.PatchAttention, or use a method '
        'that class attention serves (PALClassifier).'
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
