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
from .cls_row import ClassRow, RawTokens, inputs_of, outputs_of
from .relatives import ComputedAttention
from .timm_models import timm_class_attention

__all__ = [
    'AttentionTap',
    'ClassAttention',
    'ClassBlock',
    'ClassRow',
    'ComputedAttention',
    'PatchAttention',
    'RawTokens',
    'class_attention',
    'class_attention_of',
    'inputs_of',
    'outputs_of',
    'patch_attention_of',
    'register_class_attention',
    'timm_class_attention',
]
