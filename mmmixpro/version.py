# Copyright (c) MMMixPro contributors.
__version__ = '0.1.0'
