# Copyright (c) MMMixPro contributors.
from .ca_swin import CASwin
from .cait import CaiT
from .pvt import PVT

__all__ = ['CASwin', 'CaiT', 'PVT']
