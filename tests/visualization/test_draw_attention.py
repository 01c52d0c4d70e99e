# Copyright (c) MMMixPro contributors.
import cv2
import numpy as np

from mmmixpro.visualization import attention
from mmmixpro.visualization.attention import draw_attention


def test_the_image_twice_and_its_attention_once(monkeypatch):
    image = np.random.randint(0, 256, (40, 60, 3), dtype=np.uint8)
    looked = np.eye(3, 4, dtype=np.float32)
    png = draw_attention(image, looked, 'cat 0.93')
    height, width = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert width > 2 * height * 60 / 40 * 0.8

    monkeypatch.setattr(attention, 'to_png', lambda figure: figure)
    left, right = draw_attention(image, looked, 'cat 0.93').axes
    assert len(left.images) == 1 and len(right.images) == 2
    for ax in (left, right):
        np.testing.assert_array_equal(ax.images[0].get_array(), image)
    np.testing.assert_array_equal(right.images[1].get_array(), looked)
    # Laid over the whole of the image, whatever the token grid.
    assert right.images[1].get_extent() == [-0.5, 59.5, 39.5, -0.5]
    assert left.get_xlabel() == 'cat 0.93'
