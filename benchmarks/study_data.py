# Copyright (c) MMMixPro contributors.
"""Images of the small study: read once, kept as uint8 on the device, cropped, flipped and occluded there."""

from functools import cache
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

IMAGE_SIZE = 64
CROP_PAD = 6  # pixels an image moves by, at most
OCCLUDED = 0.5  # share of an image's patches


def list_images(root: Path, split: str, num_classes: int) -> dict[str, list[Path]]:
    """The images of the first classes, by class, in ImageNet's layout ``root/split/<class>/*.JPEG``.

    Raises:
        FileNotFoundError: If the folder, or the images of a class, are missing.
        ValueError: If there are fewer classes than asked for.
    """
    folder = root / split
    if not folder.is_dir():
        raise FileNotFoundError(
            f'{folder} is no folder. The study wants images of {IMAGE_SIZE} px in train/<class>/*.JPEG and '
            'val/<class>/*.JPEG: give the folder that holds both as --data.'
        )
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(classes) < num_classes:
        raise ValueError(
            f'{folder} holds {len(classes)} classes, fewer than {num_classes}: set --classes {len(classes)}.'
        )
    images = {name: sorted((folder / name).glob('*.JPEG')) for name in classes[:num_classes]}
    if empty := [name for name, paths in images.items() if not paths]:
        raise FileNotFoundError(f'{folder} has no *.JPEG in {empty}; every class needs some.')
    return images


@cache
def load_images(root: Path, split: str, num_classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Read the images of the first classes.

    Returns:
        tuple[Tensor, Tensor]: ``(N, 3, 64, 64)`` uint8 RGB on the device and ``(N,)`` int64 labels on the host, for
        that is where data loaders leave them.

    Raises:
        ValueError: If an image is not 64 x 64 px.
    """
    by_class = list_images(root, split, num_classes)
    samples = [(path, label) for label, paths in enumerate(by_class.values()) for path in paths]
    images = np.empty((len(samples), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    # One bar, and none for each of the parallel runs.
    bar = track(samples, f'reading {split}', console=Console(stderr=True), disable=parent_process() is not None)
    for index, (path, _) in enumerate(bar):
        with Image.open(path) as image:
            if image.size != (IMAGE_SIZE, IMAGE_SIZE):
                raise ValueError(
                    f'{path} has {image.width} x {image.height} px, expected {IMAGE_SIZE} x {IMAGE_SIZE}: '
                    'resize the images first.'
                )
            images[index] = image.convert('RGB')
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return tensor.to(device), torch.tensor([label for _, label in samples])


def crop_and_flip(images: Tensor, indices: Tensor, generator: torch.Generator) -> Tensor:
    """Images, each moved by up to 6 px and mirrored by chance; what comes in at a border is its reflection.

    Args:
        images: ``(N, C, H, W)``, the whole set.
        indices: ``(B,)`` those to take, on the host.
        generator: On the host, so that all devices see the same images.

    Returns:
        Tensor: ``(B, C, H, W)``.
    """
    num, size = len(indices), images.shape[-2:]
    shifts = torch.randint(-CROP_PAD, CROP_PAD + 1, (2, num, 1), generator=generator)
    flipped = torch.rand(num, 1, generator=generator) < 0.5
    rows, columns = (_reflect(torch.arange(side) + shift, side) for side, shift in zip(size, shifts, strict=True))
    columns = torch.where(flipped, columns.flip(1), columns)
    indices, rows, columns = (index.to(images.device, non_blocking=True) for index in (indices, rows, columns))
    channels = torch.arange(images.size(1), device=images.device)
    return images[indices[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None]]


def _reflect(positions: Tensor, size: int) -> Tensor:
    """Positions outside of an image, mirrored at its border pixels."""
    return (size - 1) - ((size - 1) - positions.abs()).abs()


def occlude(images: Tensor, patch_size: int, seed: int = 0) -> Tensor:
    """Black out half of the patches of each image, drawn at random: Fig. 3 of MixPro, in pixels before normalisation.

    Args:
        images: ``(N, C, H, W)``, sides multiples of the patch size; left as they are.
        patch_size: Side of a patch in pixels.
        seed: Of the patches; equal seeds occlude equal ones.

    Returns:
        Tensor: ``(N, C, H, W)``.
    """
    num, _, height, width = images.shape
    grid = height // patch_size, width // patch_size
    scores = torch.rand(num, grid[0] * grid[1], generator=torch.Generator().manual_seed(seed))
    hidden = scores.argsort(1).argsort(1) < round(OCCLUDED * scores.size(1))
    hidden = hidden.view(num, 1, *grid).repeat_interleave(patch_size, 2).repeat_interleave(patch_size, 3)
    return images.masked_fill(hidden.to(images.device), 0)
