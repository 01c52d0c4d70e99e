# Copyright (c) MMMixPro contributors.
from .area import AreaLabels
from .attention import AttentionLabels
from .progressive import ProgressiveAttentionLabels

__all__ = ['AreaLabels', 'AttentionLabels', 'ProgressiveAttentionLabels']
