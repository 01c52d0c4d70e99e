# Copyright (c) MMMixPro contributors.
from .mix_plan import MixPlan

__all__ = ['MixPlan']
