# Copyright (c) MMMixPro contributors.
"""Pictures and the report page; needs matplotlib and Jinja2, which ``import mmmixpro`` does not."""

from .curves import curve, plot_curves, read_scalars
from .mixed import draw_mixed
from .predictions import Instances, draw_detection, draw_segmentation
from .progress import average_lines, plot_progress, read_progress
from .report import write_report

__all__ = [
    'Instances',
    'average_lines',
    'curve',
    'draw_detection',
    'draw_mixed',
    'draw_segmentation',
    'plot_curves',
    'plot_progress',
    'read_progress',
    'read_scalars',
    'write_report',
]
