# Copyright (c) MMMixPro contributors.
from .area import AreaLabels
from .attention import AttentionLabels
from .content import ContentLabels
from .learnable import LearnableAttentionLabels
from .progressive import ProgressiveAttentionLabels
from .scheduled import ScheduledAttentionLabels
from .weights import LabelWeights

__all__ = [
    'AreaLabels',
    'AttentionLabels',
    'ContentLabels',
    'LabelWeights',
    'LearnableAttentionLabels',
    'ProgressiveAttentionLabels',
    'ScheduledAttentionLabels',
]
