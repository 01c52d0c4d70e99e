# Copyright (c) MMMixPro contributors.
"""The corruptions of ImageNet-C on any test set, without a file."""

import inspect
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from mmpretrain.datasets import BaseDataset, PackInputs
from mmpretrain.registry import DATASETS

from .corruptions import BENCHMARK, SEVERITIES, Kind, kinds
from .samples import add_metainfo

SMALLEST = 32  # px; imagecorruptions takes no smaller image


@cache
def _library() -> Any:
    try:
        import imagecorruptions
    except ImportError as error:
        raise ImportError(
            f'Images are corrupted by imagecorruptions-imaug, found none ({error}): pip install imagecorruptions-imaug.'
        ) from None
    # Without it, the package of the same import name, two corruptions draw from the system's entropy.
    if 'seed' not in inspect.signature(imagecorruptions.corruption_dict['impulse_noise']).parameters:
        raise ImportError(
            f"Expected imagecorruptions-imaug, whose corruptions can be seeded, found '{imagecorruptions.__file__}': "
            'pip uninstall imagecorruptions, and pip install imagecorruptions-imaug.'
        )
    return imagecorruptions


def corrupt(image: np.ndarray, kind: Kind, seed: int) -> np.ndarray:
    """Corrupt an image; equal arguments give equal images, and NumPy's global random state stays as it was.

    Args:
        image: ``(H, W, 3)`` uint8 in RGB, at least 32 px high and wide.
        kind: Name and severity.
        seed: Below 2^32.

    Returns:
        np.ndarray: ``(H, W, 3)`` uint8 in RGB.

    Raises:
        ImportError: Without imagecorruptions-imaug.
    """
    library = _library()
    corruption, severity = kind
    # Two of them have generators of their own.
    seeded = 'seed' in inspect.signature(library.corruption_dict[corruption]).parameters
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        return library.corrupt(image, severity, corruption, **(dict(seed=seed) if seeded else {}))
    finally:
        np.random.set_state(state)


@DATASETS.register_module()
class CorruptedDataset:
    """Every image of a test set under every corruption and severity, corrupted when it is asked for.

    The image is corrupted in pixels, between the last step of its pipeline and ``PackInputs``: with ImageNet's test
    pipeline the 224 px crop, which is what ImageNet-C corrupts too. Figures come close to those on ImageNet-C's files,
    which are compressed once more (JPEG, quality 85) and made with other code for motion blur and snow. On small images
    they are far from CIFAR-100-C's, whose severities are milder and which are corrupted before they are enlarged.

    Meta information: ``corruption`` and ``severity``. Of an image all corruptions follow each other, so that it is
    decoded and cropped once, and once more where a batch begins amid them. What is drawn depends on ``seed``, the
    image's index, the corruption and the severity, not on what else is tested, on the worker or on the order. Images
    from files, which are read in BGR, are corrupted in RGB and turned back.

    Args:
        dataset: The test set, built or its config. Its pipeline ends in ``PackInputs`` and draws nothing.
        corruptions: Defaults to the 15 of ImageNet-C. The 4 extra ones are taken when they are named.
        severities: Out of 1 to 5.
        seed: Seed, at least 0.

    Raises:
        ImportError: Without imagecorruptions-imaug.
        ValueError: For an unknown corruption or severity, another pipeline, or an image that cannot be corrupted.
    """

    def __init__(
        self,
        dataset: BaseDataset | dict,
        corruptions: Sequence[str] = BENCHMARK,
        severities: Sequence[int] = SEVERITIES,
        seed: int = 0,
    ):
        _library()
        self.kinds = kinds(corruptions, severities)
        self.seed = seed
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        steps = list(getattr(getattr(self.dataset, 'pipeline', None), 'transforms', []))
        if not steps or not isinstance(steps[-1], PackInputs):
            raise ValueError(
                f'Expected {type(self.dataset).__name__} to have a pipeline that ends in PackInputs, before which '
                f'images are corrupted; found {steps}.'
            )
        self.steps, self.pack = steps[:-1], steps[-1]
        self._latest: tuple[int, dict, slice] = (-1, {}, slice(None))

    @property
    def metainfo(self) -> dict:
        """The meta information of the test set."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Read the annotations, if that has not been done."""
        self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset) * len(self.kinds)

    def get_data_info(self, idx: int) -> dict:
        """The annotation of a sample: that of its image, its corruption and its severity."""
        image, (corruption, severity) = self._locate(idx)
        return dict(self.dataset.get_data_info(image), corruption=corruption, severity=severity)

    def _locate(self, idx: int) -> tuple[int, Kind]:
        image, which = divmod(range(len(self))[idx], len(self.kinds))
        return image, self.kinds[which]

    def __getitem__(self, idx: int) -> dict:
        image, kind = self._locate(idx)
        key = (self.seed, image, zlib.crc32(kind[0].encode()), kind[1])
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        clean, order = self._clean(image)
        rgb = np.ascontiguousarray(clean['img'][..., order])
        corrupted = np.array(corrupt(rgb, kind, seed)[..., order], order='C')
        return add_metainfo(self.pack(dict(clean, img=corrupted)), corruption=kind[0], severity=kind[1])

    def _clean(self, image: int) -> tuple[dict, slice]:
        """What the pipeline makes of an image before it packs it, and the order of channels that makes it RGB."""
        latest, clean, order = self._latest
        if latest != image:
            clean = self.dataset.get_data_info(image)
            # A dataset that has its images in memory, like CIFAR-100, has them in RGB.
            order = slice(None, None, 1 if 'img' in clean else -1)
            for step in self.steps:
                clean = step(clean)
            pixels = np.asarray(clean['img'])
            if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,) or min(pixels.shape[:2]) < SMALLEST:
                raise ValueError(
                    f'Expected images of (H, W, 3), uint8, at least {SMALLEST} px high and wide, to corrupt; the '
                    f'pipeline of {type(self.dataset).__name__} makes {pixels.shape} {pixels.dtype}.'
                )
            self._latest = (image, clean, order)
        return clean, order
