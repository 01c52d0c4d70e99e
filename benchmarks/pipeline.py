# Copyright (c) MMMixPro contributors.
"""Data loading: images/s that one core decodes and augments for ImageNet training.

python benchmarks/pipeline.py                    # generates images of ImageNet's size; two minutes
python benchmarks/pipeline.py --data FOLDER      # JPEGs of a folder

One process, one thread, no collation. mmpretrain's transforms, ours, torchvision's v2 and timm's take the same images
in turn. The torchvision and timm pipelines are the usual recipes, no exact twins: torchvision's RandAugment always
applies both its operations (mmpretrain and timm: each with probability 0.5) and draws no magnitudes.
"""

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import PIL
import torch
from harness import ROOT, common_arguments, interleave, print_table, save, spread
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from rich.console import Console
from rich.progress import track
from timm.data import create_transform
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import InterpolationMode, v2

import mmmixpro.datasets  # noqa: F401 (registers our transforms)

STOCK, FAST = 'mmpretrain', 'mmmixpro (fast)'
CONFIGS = {STOCK: 'imagenet_bs128_224.py', FAST: 'imagenet_bs128_224_fast.py'}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXEL_MEAN = [round(255 * value) for value in MEAN]
GRAIN = 110  # deviation before blurring; makes files of some 100 KB
SUFFIXES = ('.jpg', '.jpeg')

Stage = Callable[[dict], dict]


def generate(folder: Path, num: int, rng: np.random.Generator) -> None:
    """Write JPEGs as ImageNet's are on average: 500 x 375, some 100 KB: smooth blobs with grain, quality 90."""
    for index in range(num):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
        grain = cv2.GaussianBlur(rng.normal(0, GRAIN, image.shape), (0, 0), 1)
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f'{index:04d}.jpg'), image, [cv2.IMWRITE_JPEG_QUALITY, 90])


def find_images(folder: Path) -> list[Path]:
    """The JPEGs of a folder, in a shuffled order that is the same each time."""
    files = sorted(path for path in folder.rglob('*') if path.suffix.lower() in SUFFIXES)
    if not files:
        raise FileNotFoundError(f'--data: expected a folder with JPEGs ({", ".join(SUFFIXES)}) in it, found {folder}.')
    return [files[index] for index in np.random.default_rng(0).permutation(len(files))]


def config_stages(name: str) -> list[Stage]:
    """The training transforms of a `_base_` dataset."""
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets' / name)
    return [TRANSFORMS.build(step) for step in cfg.train_dataloader.dataset.pipeline]


def run_stages(stages: Sequence[Stage], path: Path) -> torch.Tensor:
    results = dict(img_path=str(path), gt_label=0)
    for stage in stages:
        results = stage(results)
    return results['inputs']


def read_pil(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes())).convert('RGB')


def read_tensor(path: Path) -> torch.Tensor:
    return decode_jpeg(read_file(str(path)), ImageReadMode.RGB)


def torchvision_pipeline(read: Callable, normalize: bool) -> Callable[[Path], torch.Tensor]:
    """torchvision v2 from a reader; ends with normalised float32, or with uint8 for the device to normalise."""
    # Its RandAugment takes no bicubic with tensors.
    interpolation = InterpolationMode.BILINEAR if read is read_tensor else InterpolationMode.BICUBIC
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224, interpolation=InterpolationMode.BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(2, 9, interpolation=interpolation, fill=PIXEL_MEAN),
            v2.ToImage(),
            *([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)] if normalize else []),
            # Its noise is N(0, 1), which means nothing in uint8: there a constant.
            v2.RandomErasing(0.25, value='random' if normalize else PIXEL_MEAN),
        ]
    )
    return lambda path: transform(read(path))


def make_pipelines() -> dict[str, Callable[[Path], torch.Tensor]]:
    """By name, what makes the training tensor of a file."""
    init_default_scope('mmpretrain')
    stages = {name: config_stages(config) for name, config in CONFIGS.items()}
    # mmax9: at magnitude 10 its Posterize keeps no bit, which Pillow refuses since version 13.
    timm = create_transform(
        224,
        is_training=True,
        auto_augment='rand-m9-mstd0.5-inc1-mmax9',
        re_prob=0.25,
        re_mode='pixel',
        interpolation='bicubic',
    )
    return {
        STOCK: lambda path: run_stages(stages[STOCK], path),
        FAST: lambda path: run_stages(stages[FAST], path),
        'torchvision v2, PIL, float32': torchvision_pipeline(read_pil, normalize=True),
        'torchvision v2, PIL, uint8': torchvision_pipeline(read_pil, normalize=False),
        'torchvision v2, tensors, float32': torchvision_pipeline(read_tensor, normalize=True),
        'torchvision v2, tensors, uint8': torchvision_pipeline(read_tensor, normalize=False),
        'timm, float32': lambda path: timm(read_pil(path)),
    }


def in_turn(pipeline: Callable[[Path], torch.Tensor], files: Sequence[Path], num: int) -> Callable[[], None]:
    """Takes the next files at each call; the n-th call of every pipeline gets the same ones."""
    endless = cycle(files)

    def take() -> None:
        for path in islice(endless, num):
            pipeline(path)

    return take


def time_stages(files: Iterator[Path], num: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds per image of each stage of the two configs, which take turns."""
    stages = {name: config_stages(config) for name, config in CONFIGS.items()}
    times = {name: [[] for _ in steps] for name, steps in stages.items()}
    for _ in track(range(rounds), description='stages', console=Console(stderr=True)):
        chunk = list(islice(files, num))
        for name, steps in stages.items():
            total = [0.0] * len(steps)
            for path in chunk:
                results = dict(img_path=str(path), gt_label=0)
                for index, stage in enumerate(steps):
                    start = time.perf_counter()
                    results = stage(results)
                    total[index] += time.perf_counter() - start
            for values, seconds in zip(times[name], total, strict=True):
                values.append(1e3 * seconds / num)
    return {
        name: {type(stage).__name__: spread(values) for stage, values in zip(steps, times[name], strict=True)}
        for name, steps in stages.items()
    }


def describe(files: Sequence[Path]) -> dict[str, float]:
    sizes = [Image.open(path).size for path in files]
    return dict(
        number=len(files),
        mean_width=fmean(width for width, _ in sizes),
        mean_height=fmean(height for _, height in sizes),
        mean_kilobytes=fmean(path.stat().st_size for path in files) / 1000,
    )


def show(pipelines: dict[str, dict], stages: dict[str, dict], images: dict[str, float]) -> None:
    title = (
        f'Images/s of one core ({images["mean_width"]:.0f} x {images["mean_height"]:.0f} px, '
        f'{images["mean_kilobytes"]:.0f} KB on average): median and quartiles'
    )
    rows = [
        dict(pipeline=name, **{'images/s': _span(row['images_per_s'], 0), 'to mmpretrain': _span(row['speedup'], 2)})
        for name, row in pipelines.items()
    ]
    print_table(title, rows)
    pairs = zip(stages[STOCK].items(), stages[FAST].items(), strict=True)
    rows = [dict(stage=name, **{STOCK: _span(stock, 3), FAST: _span(fast, 3)}) for (name, stock), (_, fast) in pairs]
    print_table('ms per image and stage', rows)


def _span(values: dict[str, float], digits: int) -> str:
    return f'{values["median"]:.{digits}f} ({values["q1"]:.{digits}f}-{values["q3"]:.{digits}f})'


def main() -> None:
    parser = common_arguments(__doc__)
    parser.set_defaults(device='cpu')
    parser.add_argument('--data', type=Path, help='folder of JPEGs; default: images generated for this run')
    parser.add_argument('--images', type=int, default=64, help='images per round; default: %(default)s')
    parser.add_argument('--rounds', type=int, default=20, help='timed rounds; default: %(default)s')
    args = parser.parse_args()
    if args.device != 'cpu':
        parser.error(f'--device: everything here runs on the CPU, got {args.device}')
    if min(args.images, args.rounds) < 1:
        parser.error(f'--images and --rounds: expected 1 or more, got {args.images} and {args.rounds}')
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    with tempfile.TemporaryDirectory() as folder:
        if args.data is None:
            generate(Path(folder), 4 * args.images, np.random.default_rng(args.seed))
        files = find_images(args.data or Path(folder))
        steps = {name: in_turn(pipeline, files, args.images) for name, pipeline in make_pipelines().items()}
        times = interleave(steps, args.rounds, warmup=1, seed=args.seed)
        stages = time_stages(cycle(files), args.images, args.rounds)
        images = describe(files)

    pipelines = {
        name: dict(
            images_per_s=spread([args.images / seconds for seconds in values]),
            speedup=spread([stock / own for stock, own in zip(times[STOCK], values, strict=True)]),
        )
        for name, values in times.items()
    }
    show(pipelines, stages, images)
    libraries = dict(opencv=cv2.__version__, pillow=PIL.__version__, torch_cpu=torch.backends.cpu.get_cpu_capability())
    save(args, dict(images=images, libraries=libraries, pipelines=pipelines, stages_ms=stages))


if __name__ == '__main__':
    main()
