# Copyright (c) MMMixPro contributors.
"""Where a classifier looks."""

import matplotlib as mpl
import numpy as np

from .figure import STYLE, image_grid, to_png
from .mixed import show_attention


@mpl.rc_context(STYLE)
def draw_attention(image: np.ndarray, attention: np.ndarray, caption: str = '') -> bytes:
    """Draw an image, and beside it the same with class attention over it: brighter is more.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, as the classifier sees it.
        attention: ``(h, w)`` class attention.
        caption: What stands below, such as the class that is predicted.

    Returns:
        bytes: A PNG.
    """
    height, width = image.shape[:2]
    figure, axes = image_grid([height / width], 2)
    for ax in axes[0]:
        ax.imshow(image, interpolation='nearest')
    show_attention(axes[0, 1], attention, (height, width))
    axes[0, 0].set_xlabel(caption)
    axes[0, 1].set_xlabel('attention')
    return to_png(figure)
