# Copyright (c) MMMixPro contributors.
from .compact_accuracy import CompactAccuracy

__all__ = ['CompactAccuracy']
