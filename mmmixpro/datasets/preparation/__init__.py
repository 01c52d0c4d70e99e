# Copyright (c) MMMixPro contributors.
"""Data sets from their downloads to the layouts that the configs read: logic of ``tools/dataset_converters``."""
