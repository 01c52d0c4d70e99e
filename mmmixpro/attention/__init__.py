# Copyright (c) MMMixPro contributors.
from .base import AttentionTap, ClassAttention, class_attention, class_attention_of, register_class_attention
from .cls_row import ClassRow

__all__ = [
    'AttentionTap',
    'ClassAttention',
    'ClassRow',
    'class_attention',
    'class_attention_of',
    'register_class_attention',
]
