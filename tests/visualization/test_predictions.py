# Copyright (c) MMMixPro contributors.
import cv2
import numpy as np
import pytest

from mmmixpro.visualization import Instances, draw_detection, draw_segmentation, predictions

NAMES = ['sky', 'road', 'car']
PALETTE = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.fixture
def images():
    """Two images, one of them upright."""
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=size, dtype=np.uint8) for size in ((20, 40, 3), (60, 40, 3))]


@pytest.fixture
def figure(monkeypatch):
    monkeypatch.setattr(predictions, 'to_png', lambda figure: figure)

    def figure(draw, *args, **kwargs):
        drawn = draw(*args, **kwargs)
        legend = [text.get_text() for text in drawn.legends[0].get_texts()]
        return np.array(drawn.axes).reshape(2, -1), legend

    return figure


def masks(images, value):
    return [np.full(image.shape[:2], value, np.uint8) for image in images]


def test_segmentation(images, figure):
    truths = masks(images, 1)
    truths[0][:, :5] = 255
    models = {'from MixPro': masks(images, 2), 'from scratch': masks(images, 1)}
    axes, legend = figure(draw_segmentation, images, truths, models, NAMES, PALETTE)
    assert [ax.get_title() for ax in axes[0]] == ['image', 'truth', 'from MixPro', 'from scratch']
    # No sky anywhere.
    assert legend == ['road', 'car', 'ignored']
    for i, row in enumerate(axes):
        np.testing.assert_array_equal(row[0].images[0].get_array(), images[i])
        for ax, mask in zip(row[1:], (truths[i], *(of[i] for of in models.values())), strict=True):
            painted = ax.images[1]
            colours = painted.to_rgba(painted.get_array(), alpha=1, bytes=True)[..., :3]
            np.testing.assert_array_equal(colours[mask != 255], np.array(PALETTE)[mask[mask != 255]])
            np.testing.assert_array_equal(colours[mask == 255], np.full(((mask == 255).sum(), 3), (0xD3, 0xD7, 0xDC)))


def test_segmentation_ignores_another_index(images, figure):
    truths = masks(images, 3)
    truths[0][0] = 0
    axes, legend = figure(draw_segmentation, images, truths, {}, NAMES, PALETTE, ignore_index=3)
    assert axes.shape == (2, 2)
    assert legend == ['sky', 'ignored']
    axes, legend = figure(draw_segmentation, images, masks(images, 0), {}, NAMES, PALETTE)
    assert legend == ['sky']


@pytest.fixture
def instances():
    """Instances in an image, each one pixel of its mask set."""

    def instances(image, labels, scores=None):
        num = len(labels)
        found = np.zeros((num, *image.shape[:2]), bool)
        found[range(num), range(num), 0] = True
        boxes = np.array([[k, 2 * k, k + 5, 2 * k + 7] for k in range(num)], float).reshape(num, 4)
        return Instances(boxes, found, np.array(labels, int), None if scores is None else np.array(scores, float))

    return instances


def boxes(ax):
    return [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in ax.patches]


def test_detection(images, figure, instances):
    truths = [instances(images[0], [2, 0]), instances(images[1], [2])]
    sure = [instances(images[0], [1, 2, 2], [0.9, 0.1, 0.3]), instances(images[1], [2], [0.31])]
    unsure = [instances(images[0], [0], [0.29]), instances(images[1], [], [])]
    models = {'from MixPro': sure, 'from scratch': unsure}
    axes, legend = figure(draw_detection, images, truths, models, NAMES)
    assert legend == ['sky', 'road', 'car']
    assert boxes(axes[0, 1]) == [(0, 0, 5, 7), (1, 2, 5, 7)]
    # The surest is drawn last, the one below the threshold not at all.
    assert boxes(axes[0, 2]) == [(2, 4, 5, 7), (0, 0, 5, 7)]
    assert [text.get_text() for text in axes[0, 2].texts] == ['0.30', '0.90']
    assert not axes[0, 1].texts
    for ax in axes[:, 3]:
        assert not ax.patches
        assert [text.get_text() for text in ax.texts] == ['none above 0.3']
    for drawn, k in zip(axes[0, 2].images[1:], (2, 0), strict=True):
        np.testing.assert_array_equal(~drawn.get_array().mask, sure[0].masks[k])
    # One colour for a class, whichever the column.
    car = axes[0, 1].patches[0].get_edgecolor()
    assert car == axes[1, 1].patches[0].get_edgecolor() == axes[1, 2].patches[0].get_edgecolor()
    assert car != axes[0, 1].patches[1].get_edgecolor()


def test_detection_threshold(images, figure, instances):
    truths = [instances(image, []) for image in images]
    found = {'model': [instances(image, [0, 1], [0.5, 0.05]) for image in images]}
    axes, legend = figure(draw_detection, images, truths, found, NAMES, score_thr=0.01)
    assert len(axes[0, 2].patches) == 2
    axes, legend = figure(draw_detection, images, truths, found, NAMES, score_thr=0.6)
    assert legend == []
    assert axes[0, 2].texts[0].get_text() == 'none above 0.6'


def test_twenty_classes_have_colours_of_their_own(images, figure, instances):
    names = [f'class {i}' for i in range(20)]
    axes, legend = figure(draw_detection, images, [instances(image, range(20)) for image in images], {}, names)
    assert legend == names
    assert len({patch.get_edgecolor() for patch in axes[0, 1].patches}) == 20


def test_png(images, instances):
    truths = masks(images, 1)
    pngs = [
        draw_segmentation(images, truths, {'$a_1$': truths, '<b>': truths}, NAMES, PALETTE),
        draw_detection(images, [instances(image, [0]) for image in images], {}, NAMES),
    ]
    for png, columns in zip(pngs, (4, 2), strict=True):
        height, width = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).shape[:2]
        assert width == pytest.approx(200 * 1.3 * (columns + 0.06 * (columns - 1)), abs=12)
        # Rows half and one and a half times as high as wide, titles and the legend.
        assert 200 * 1.3 * 2 < height < 200 * 1.3 * 2.7


def test_columns_must_fit(images):
    with pytest.raises(ValueError, match='zip'):
        draw_segmentation(images, masks(images[:1], 1), {}, NAMES, PALETTE)
