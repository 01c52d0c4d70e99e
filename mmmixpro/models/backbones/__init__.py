# Copyright (c) MMMixPro contributors.
from .pvt import PVT

__all__ = ['PVT']
