# Copyright (c) MMMixPro contributors.
from .base import (
    AttentionTap,
    ClassAttention,
    PatchAttention,
    class_attention,
    class_attention_of,
    patch_attention_of,
    register_class_attention,
)
from .class_block import ClassBlock
from .cls_row import ClassRow, RawTokens

__all__ = [
    'AttentionTap',
    'ClassAttention',
    'ClassBlock',
    'ClassRow',
    'PatchAttention',
    'RawTokens',
    'class_attention',
    'class_attention_of',
    'patch_attention_of',
    'register_class_attention',
]
