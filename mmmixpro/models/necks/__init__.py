# Copyright (c) MMMixPro contributors.
from .cls_token_neck import ClsTokenNeck

__all__ = ['ClsTokenNeck']
