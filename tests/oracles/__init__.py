# Copyright (c) MMMixPro contributors.
"""Slow NumPy, written in loops from the equations of the papers, to test the real code against.

Nothing here imports torch or mmmixpro; everything is float64.
"""
