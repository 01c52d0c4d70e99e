# Copyright (c) MMMixPro contributors.
"""Shapes: one generated world for classification, segmentation and detection.

:func:`prepare_shapes` writes it once, in the layouts that the stock dataset classes read::

    imagenet/{train,val}/<class>/*.png                                     mmpretrain ImageNet, CustomDataset
    seg/{img_dir,ann_dir}/{train,val}/*.png  seg/meta/{train,val}.txt      mmseg BaseSegDataset
    coco/images/{train,val}/*.png  coco/annotations/instances_*.json       mmdet CocoDataset
    shapes.json                                                            parameters and counts

The scenes under ``seg`` and ``coco`` are the same; ``seg/meta`` is mmpretrain's list of their image-level labels.
A classification image is a small scene whose label is its largest object. Objects are about as large in px in both,
so that pretraining transfers. Each image has its own random stream: none of one split can occur in the other.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from mmmixpro.datasets.scenes import CLASSES, Scene, draw_scene
from mmmixpro.utils.cache import cache_root

SPLITS = ('train', 'val')
VERSION = 1  # to raise whenever a byte of the data changes
MARKER = 'shapes.json'
STALE_SECONDS = 3600  # a temporary folder as old as this was left by a killed run


@dataclass(frozen=True)
class ShapesConfig:
    """Sizes of the generated data.

    Args:
        seed: Seed of the whole world, >= 0.
        train_images: Classification images for training, at least one per class; the classes take turns.
        val_images: Classification images for validation, likewise.
        image_size: Side of a classification image in px, >= 32.
        train_scenes: Scenes for training segmentation and detection.
        val_scenes: Scenes for validation.
        scene_size: Side of a scene in px, >= 64.

    Raises:
        ValueError: If a value is no integer or is too small.
    """

    seed: int = 0
    train_images: int = 3000
    val_images: int = 400
    image_size: int = 64
    train_scenes: int = 200
    val_scenes: int = 80
    scene_size: int = 128

    def __post_init__(self) -> None:
        least = dict(seed=0, train_images=len(CLASSES), val_images=len(CLASSES), image_size=32, scene_size=64)
        for name, value in asdict(self).items():
            if not isinstance(value, int) or value < least.get(name, 1):
                raise ValueError(f'{name} must be an integer >= {least.get(name, 1)}, found {value!r}')

    def images(self, split: str) -> Iterator[Scene]:
        """Yields the classification images of a split; the label of image ``i`` is ``i % len(CLASSES)``."""
        for i in range(getattr(self, f'{split}_images')):
            rng = np.random.default_rng([self.seed, 0, SPLITS.index(split), i])
            others = rng.integers(3)
            kinds = [*rng.integers(len(CLASSES), size=others).tolist(), i % len(CLASSES)]
            diameters = self.image_size * np.append(rng.uniform(0.15, 0.3, others), rng.uniform(0.6, 0.8))
            yield draw_scene(rng, self.image_size, kinds, diameters.tolist())

    def scenes(self, split: str) -> Iterator[Scene]:
        """Yields the scenes of a split, each with three to seven objects."""
        for i in range(getattr(self, f'{split}_scenes')):
            rng = np.random.default_rng([self.seed, 1, SPLITS.index(split), i])
            kinds = rng.integers(len(CLASSES), size=rng.integers(3, 8)).tolist()
            diameters = self.scene_size * rng.uniform(0.19, 0.4, len(kinds))
            yield draw_scene(rng, self.scene_size, kinds, diameters.tolist())


def _write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode('.png', image)[1].tobytes())


def _run_lengths(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths of a bool mask: zeros first, column by column."""
    flat = np.concatenate([[False], mask.ravel(order='F')])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return dict(size=list(mask.shape), counts=np.diff([0, *edges.tolist(), mask.size]).tolist())


def _annotations(scene: Scene) -> Iterator[dict]:
    for kind, mask in scene.instances:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = int(columns[0]), int(rows[0])
        yield dict(
            category_id=kind + 1,
            bbox=[x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
            area=int(mask.sum()),
            segmentation=_run_lengths(mask),
            iscrowd=0,
        )


def _write_split(folder: Path, config: ShapesConfig, split: str) -> dict[str, int]:
    """Writes one split of all three tasks and returns its counts."""
    console = Console(stderr=True)
    total = getattr(config, f'{split}_images')
    for i, scene in enumerate(track(config.images(split), f'Drawing {split} images', total, console=console)):
        assert scene.label == i % len(CLASSES), 'the object in front is the largest'
        _write_png(folder / 'imagenet' / split / CLASSES[scene.label] / f'{i:05d}.png', scene.image)

    coco: dict = dict(
        info=dict(description='Shapes', version=str(VERSION), year=2025),
        licenses=[dict(id=1, name='Apache-2.0', url='https://www.apache.org/licenses/LICENSE-2.0')],
        categories=[dict(id=i + 1, name=name, supercategory='shape') for i, name in enumerate(CLASSES)],
        images=[],
        annotations=[],
    )
    labels = []
    total = getattr(config, f'{split}_scenes')
    for i, scene in enumerate(track(config.scenes(split), f'Drawing {split} scenes', total, console=console)):
        name = f'{i:05d}.png'
        _write_png(folder / 'seg/img_dir' / split / name, scene.image)
        _write_png(folder / 'seg/ann_dir' / split / name, scene.semantic)
        _write_png(folder / 'coco/images' / split / name, scene.image)
        labels.append(f'{name} {scene.label}\n')
        height, width = scene.semantic.shape
        coco['images'].append(dict(id=i + 1, file_name=name, height=height, width=width, license=1))
        coco['annotations'] += [
            dict(id=len(coco['annotations']) + j, image_id=i + 1, **annotation)
            for j, annotation in enumerate(_annotations(scene), start=1)
        ]
    for path, text in (
        (folder / 'seg/meta' / f'{split}.txt', ''.join(labels)),
        (folder / 'coco/annotations' / f'instances_{split}.json', json.dumps(coco)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return dict(images=getattr(config, f'{split}_images'), scenes=total, instances=len(coco['annotations']))


def _identity(config: ShapesConfig) -> dict:
    return dict(version=VERSION, **asdict(config))


def default_root(config: ShapesConfig | None = None) -> Path:
    """Folder of the data below ``$MMMIXPRO_CACHE`` (default ``~/.cache/mmmixpro``); nothing is written."""
    identity = json.dumps(_identity(config or ShapesConfig()), sort_keys=True)
    return cache_root() / 'shapes' / hashlib.sha256(identity.encode()).hexdigest()[:12]


def _is_complete(root: Path, config: ShapesConfig) -> bool:
    """Whether ``root`` already holds this very data; an absent or empty folder does not."""
    if not root.is_dir() or not any(root.iterdir()):
        return False
    marker = root / MARKER
    found = json.loads(marker.read_text())['config'] if marker.is_file() else 'other files'
    if found != _identity(config):
        raise ValueError(
            f'{root} must be new, empty or hold the data of {_identity(config)}; it holds {found}. '
            'Name another folder, or remove this one.'
        )
    return True


def prepare_shapes(root: Path | str | None = None, config: ShapesConfig | None = None) -> Path:
    """Writes the data unless it is there, and returns its folder.

    The folder is written beside its place and renamed in one step, so that it is whole or absent, also when the
    run is killed or two processes write at once. Equal parameters give equal bytes.

    Args:
        root: Folder to write; :func:`default_root` by default.
        config: Sizes and seed; ``ShapesConfig()`` by default.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If ``root`` holds something else.
    """
    config = config or ShapesConfig()
    root = default_root(config) if root is None else Path(root).expanduser().absolute()
    try:
        if _is_complete(root, config):
            return root
        root.parent.mkdir(parents=True, exist_ok=True)
        for left in root.parent.glob(f'.{root.name}.*'):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=f'.{root.name}.', dir=root.parent))
        try:
            counts = {split: _write_split(draft, config, split) for split in SPLITS}
            (draft / MARKER).write_text(json.dumps(dict(config=_identity(config), counts=counts), indent=2) + '\n')
            draft.chmod(0o755)
            try:
                draft.rename(root)
            except OSError:
                if not _is_complete(root, config):  # else another process was first with the same bytes
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise OSError(
            f'cannot write the generated data to {root}: {error}. Set MMMIXPRO_CACHE to a writable folder '
            'with 100 MB to spare, or name another folder.'
        ) from error
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description='Write the generated data of three tasks.')
    parser.add_argument('--out', type=Path, help='folder to write (default: below $MMMIXPRO_CACHE)')
    root = prepare_shapes(parser.parse_args().out)
    print(root)
    for split, counts in json.loads((root / MARKER).read_text())['counts'].items():
        print(f'{split}: ' + ', '.join(f'{count} {name}' for name, count in counts.items()))


if __name__ == '__main__':
    main()
