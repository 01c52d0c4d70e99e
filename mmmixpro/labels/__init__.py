# Copyright (c) MMMixPro contributors.
from .area import AreaLabels
from .attention import AttentionLabels
from .content import ContentLabels
from .learnable import LearnableAttentionLabels
from .progressive import ProgressiveAttentionLabels
from .scheduled import ScheduledAttentionLabels

__all__ = [
    'AreaLabels',
    'AttentionLabels',
    'ContentLabels',
    'LearnableAttentionLabels',
    'ProgressiveAttentionLabels',
    'ScheduledAttentionLabels',
]
