# Copyright (c) MMMixPro contributors.
"""Draws one textured, cluttered scene with its image-level label, semantic mask and instances.

A class is a kind of shape: its outline tells it, and to a lesser degree its texture, for each class prefers one of
five. Colour, pose and size are independent of the class: all shapes have the same area at the same diameter. Strokes
and irregular blobs in the same textures lie behind, a few strokes in front.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

IGNORE = 255
TEXTURES = 5
TEXTURE_HABIT = 0.6  # how often an object wears the texture that its class shares with one other
SUPERSAMPLING = 4  # coverage of a pixel is counted on 4 x 4 points
MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE = 24, 0.3  # what shows less of itself is ignored


@dataclass
class Scene:
    """One image and what it shows.

    Attributes:
        image: (S, S, 3) uint8, BGR as OpenCV writes it.
        semantic: (S, S) uint8 over visible pixels: 0 background, 1 + class index, 255 objects too hidden to count.
        instances: Pairs of class index and (S, S) bool mask of the visible pixels.
    """

    image: np.ndarray
    semantic: np.ndarray
    instances: list[tuple[int, np.ndarray]] = field(default_factory=list)

    @property
    def label(self) -> int:
        """Class index of the instance with the largest visible area."""
        return max(self.instances, key=lambda instance: int(instance[1].sum()))[0]


def _spikes(*radii: float) -> np.ndarray:
    """(P, 2) polygon whose corners stand at equal angles and these radii."""
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    return np.stack([np.sin(angles), -np.cos(angles)], 1) * np.asarray(radii)[:, None]


def _outlines() -> dict[str, list[np.ndarray]]:
    """Contours of each class (filled even-odd), centred, with the area of a disc of diameter 1."""
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    circle = _spikes(*np.ones(72))
    arrow = [(0, -1), (0.85, -0.05), (0.3, -0.05), (0.3, 1), (-0.3, 1), (-0.3, -0.05), (-0.85, -0.05)]
    cross = [(-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)]
    # The moon: a circle's arc, closed by the flatter arc of a smaller circle through the same two horns.
    out, back = np.linspace(0.8, 2 * np.pi - 0.8, 48), np.linspace(2 * np.pi - 1.25, 1.25, 40)
    radius = np.sin(0.8) / np.sin(1.25)
    bite = np.stack([np.cos(0.8) + radius * (np.cos(back) - np.cos(1.25)), radius * np.sin(back)], 1)
    heart = [16 * np.sin(t) ** 3, -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)]
    shapes = dict(
        arrow=[np.array(arrow)],
        crescent=[np.concatenate([np.stack([np.cos(out), np.sin(out)], 1), bite])],
        cross=[np.array(cross, float)],
        disc=[circle],
        flower=[circle * (1 + 0.3 * np.cos(6 * t))[:, None]],
        heart=[np.stack(heart, 1)],
        ring=[circle, 0.55 * circle],
        square=[_spikes(1, 1, 1, 1) @ np.array([(1, 1), (-1, 1)])],
        star=[_spikes(*(1, 0.42) * 5)],
        triangle=[_spikes(1, 1, 1)],
    )
    for name, contours in shapes.items():
        areas = [cv2.contourArea(contour.astype(np.float32)) for contour in contours]
        scale = np.sqrt(np.pi / 4 / (2 * areas[0] - sum(areas)))
        centre = (contours[0].min(0) + contours[0].max(0)) / 2
        shapes[name] = [(contour - centre) * scale for contour in contours]
    return shapes


OUTLINES = _outlines()
CLASSES = tuple(OUTLINES)  # alphabetical, as dataset classes sort the folders


def _coverage(contours: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """(H, W) float32 in [0, 1]: the share of each pixel inside the contours, given in px."""
    canvas = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    cv2.fillPoly(canvas, [np.rint(c * SUPERSAMPLING).astype(np.int32) for c in contours], 255)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _texture(
    rng: np.random.Generator, height: int, width: int, colours: np.ndarray, kind: int | np.integer
) -> np.ndarray:
    """(H, W, 3) float32 blend of two colours by a pattern: stripes, checks, dots, a gradient or noise."""
    angle, phase, period = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 2), rng.uniform(5, 14)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    wave_u, wave_v = (np.sin(2 * np.pi / period * axis + start) for axis, start in zip((u, v), phase, strict=True))
    noise = rng.random((2 + height // 5, 2 + width // 5), np.float32)
    pattern = (
        lambda: 0.5 + 2 * wave_u,
        lambda: 0.5 + 3 * wave_u * wave_v,
        lambda: 2 * (wave_u + wave_v) - 1,
        lambda: (u - u.min()) / np.ptp(u),
        lambda: cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC),
    )[kind]()
    return colours[0] + np.clip(pattern, 0, 1)[..., None] * (colours[1] - colours[0])


def _colours(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """(2, 3) float32 related BGR colours of any hue, their brightness between low and high."""
    hue, saturation, value = rng.uniform(0, 360), rng.uniform(0.2, 0.9), rng.uniform(low, high)
    second = hue + rng.normal(0, 40), saturation * rng.uniform(0.5, 1), value * rng.uniform(0.75, 1)
    hsv = np.array([[(hue, saturation, value), (second[0] % 360, *second[1:])]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0]


def _paint(
    rng: np.random.Generator,
    canvas: np.ndarray,
    contours: list[np.ndarray],
    colours: np.ndarray,
    texture: int | np.integer,
) -> np.ndarray:
    """Lays a textured, slightly rounded tile, lit from the top left, on the canvas in place.

    Returns:
        (S, S) bool, the pixels of which the tile covers at least half.
    """
    low = np.maximum(np.floor(contours[0].min(0)).astype(int) - 4, 0)
    high = np.minimum(np.ceil(contours[0].max(0)).astype(int) + 5, len(canvas))
    window = slice(low[1], high[1]), slice(low[0], high[0])
    part = canvas[window]
    height, width = part.shape[:2]
    alpha = _coverage([contour - low for contour in contours], height, width)
    soft = cv2.GaussianBlur(alpha, (0, 0), 1.2)
    light = cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=0.1) + cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=0.1)
    part[2:, 2:] *= 1 - 0.4 * soft[:-2, :-2, None]
    part += alpha[..., None] * (_texture(rng, height, width, colours, texture) * (1 + light)[..., None] - part)
    covered = np.zeros(canvas.shape[:2], bool)
    covered[window] = alpha >= 0.5
    return covered


def _turn(points: np.ndarray, angle: float) -> np.ndarray:
    return points @ np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])


def _stroke(rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """A curved line as a broad pen draws it."""
    t = np.linspace(0, 1, 16)[:, None]
    start, middle, end = rng.uniform(0, size, (3, 2))
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    pen = rng.uniform(-1.3, 1.3, 2)
    return [np.concatenate([curve + pen, curve[::-1] - pen])]


def _blob(rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """A long, bent, irregular patch that resembles none of the classes."""
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    width, length, bend = rng.uniform(2, 4), rng.uniform(6, 12), rng.uniform(-0.05, 0.05)
    wobble = 1 + rng.uniform(0.1, 0.3) * np.cos(3 * t + rng.uniform(0, 2 * np.pi))
    outline = np.stack([length * np.cos(t), width * np.sin(t) * wobble + bend * (length * np.cos(t)) ** 2], 1)
    return [_turn(outline, rng.uniform(0, 2 * np.pi)) + rng.uniform(0, size, 2)]


def _place(rng: np.random.Generator, size: int, diameters: Sequence[float]) -> np.ndarray:
    """(n, 2) centres in px, last object first: each takes the roomiest of three random places inside the frame."""
    centres = np.zeros((len(diameters), 2))
    for i in reversed(range(len(diameters))):
        places = rng.uniform(0.45 * diameters[i], size - 0.45 * diameters[i], (3, 2))
        gaps = [
            np.linalg.norm(places - centres[j], axis=1) - (diameters[i] + diameters[j]) / 2
            for j in range(i + 1, len(diameters))
        ]
        centres[i] = places[np.argmax(np.min(gaps, axis=0))] if gaps else places[0]
    return centres


def draw_scene(rng: np.random.Generator, size: int, kinds: Sequence[int], diameters: Sequence[float]) -> Scene:
    """Draws the given objects on a cluttered background.

    Args:
        rng: Source of everything that is not given: equal states draw equal scenes.
        size: Side of the image in px.
        kinds: Class index of each object, from back to front.
        diameters: Diameter in px of the disc that has the object's area, each below ``size``.
    """
    canvas = _texture(rng, size, size, _colours(rng, 0.15, 0.4), rng.integers(TEXTURES))
    for _ in range(rng.poisson(size * size / 1800)):
        clutter = (_stroke, _blob)[rng.integers(2)](rng, size)
        _paint(rng, canvas, clutter, _colours(rng, 0.3, 1), rng.integers(TEXTURES))

    owner = np.full((size, size), -1)
    whole = []
    centres = _place(rng, size, diameters)
    for i, (kind, diameter) in enumerate(zip(kinds, diameters, strict=True)):
        stretch = np.exp(rng.uniform(-0.12, 0.12))
        pose = diameter * np.array([rng.choice((-1, 1)) * stretch, 1 / stretch])
        angle = rng.uniform(-0.3, 0.3)
        texture = kind % TEXTURES if rng.random() < TEXTURE_HABIT else rng.integers(TEXTURES)
        contours = [_turn(contour * pose, angle) + centres[i] for contour in OUTLINES[CLASSES[kind]]]
        covered = _paint(rng, canvas, contours, _colours(rng, 0.65, 1), texture)
        owner[covered] = i
        whole.append(covered.sum())
    for _ in range(rng.poisson(size / 100)):
        owner[_paint(rng, canvas, _stroke(rng, size), _colours(rng, 0.3, 1), rng.integers(TEXTURES))] = -1

    canvas = (canvas - 0.5) * rng.uniform(0.7, 1.1) + 0.5 + rng.normal(0, 0.06) + rng.normal(0, 0.02, canvas.shape)
    scene = Scene((np.clip(canvas, 0, 1) * 255).astype(np.uint8), np.zeros((size, size), np.uint8))
    for i, kind in enumerate(kinds):
        visible = owner == i
        if visible.sum() >= max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * whole[i]):
            scene.semantic[visible] = kind + 1
            scene.instances.append((kind, visible))
        else:
            scene.semantic[visible] = IGNORE
    return scene
