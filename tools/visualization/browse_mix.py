#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Draw pairs of images under every method that has a config, with masks, lambda, alpha and attention.

python tools/visualization/browse_mix.py                                              generated images, all methods
python tools/visualization/browse_mix.py --data data/imagenet/val --methods mixpro transmix CutMix
python tools/visualization/browse_mix.py --config CONFIG --checkpoint CHECKPOINT      Fig. 6 of MixPro: with attention
python tools/visualization/browse_mix.py --ablation table7 --masks --num 3            Fig. 4: the mask strategies

Without a checkpoint there is no attention to show, and methods that the model guides look where chance has it.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import MODELS

import mmmixpro  # noqa: F401  (registers everything)
from mmmixpro.datasets.scenes import CLASSES
from mmmixpro.datasets.shapes import ShapesConfig
from mmmixpro.mixing import BatchMixer
from mmmixpro.utils.methods import find_ablation, find_configs
from mmmixpro.utils.weights import load_weights
from mmmixpro.visualization.mixed import to_rgb
from mmmixpro.visualization.pairs import Method, MixedImage, image_size
from mmmixpro.visualization.sheet import Pair, draw_sheet

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# Of the labels or the loss of a method; no other model has them.
OWN = ('labels.', 'token_head.')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, help='folder <class>/<image>, or one with val/; default: generated images')
    parser.add_argument('--num', type=int, default=6, help='pairs; default: %(default)s')
    parser.add_argument('--out', type=Path, default=Path('mixed.png'), help='a .png; default: %(default)s')
    parser.add_argument('--methods', nargs='+', help='some only: folders of configs/, or augments of mmpretrain')
    parser.add_argument('--model', default='deit-s', help='whose configs to take; default: %(default)s')
    parser.add_argument('--ablation', help="in place of the methods, the rows of a table of configs/ablation: 'table7'")
    parser.add_argument('--masks', action='store_true', help='draw the masks too')
    parser.add_argument('--config', type=Path, help='of the model that looks; default: of MixPro')
    parser.add_argument('--checkpoint', help='its weights')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    if args.num < 1:
        parser.error(f'--num is the number of pairs, at least 1; got {args.num}.')
    if args.out.suffix != '.png':
        parser.error(f"--out takes a .png, got '{args.out}'.")
    return args


def load_pairs(args: argparse.Namespace, size: int) -> tuple[list[torch.Tensor], list[list[int]], list[str]]:
    """Images of pairs, two classes in each where there are two: uint8 BGR; their labels; the names of all classes."""
    if args.data is None:
        shapes = ShapesConfig(seed=args.seed, val_images=max(2 * args.num, len(CLASSES)), image_size=size)
        scenes = [scene for scene, _ in zip(shapes.images('val'), range(2 * args.num), strict=False)]
        images = [torch.from_numpy(scene.image).permute(2, 0, 1) for scene in scenes]
        labels = [scene.label for scene in scenes]
        classes = list(CLASSES)
    else:
        folder = args.data / 'val' if (args.data / 'val').is_dir() else args.data
        if not any(folder.glob('*/*')):
            raise FileNotFoundError(
                f"--data: expected images '{folder}/<class>/<image>', found none. Name the folder that holds a folder "
                'for each class, or leave --data out for generated images.'
            )
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=size, edge='short', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=size),
            dict(type='PackInputs'),
        ]
        dataset = CustomDataset(data_root=str(folder), with_label=True, pipeline=pipeline)
        chosen = _choose(np.array(dataset.get_gt_labels()), args.num, np.random.default_rng(args.seed))
        samples = [dataset[i] for i in chosen]
        images = [sample['inputs'] for sample in samples]
        labels = [int(sample['data_samples'].gt_label) for sample in samples]
        classes = list(dataset.metainfo['classes'])
    pairs = range(0, len(images), 2)
    return [torch.stack(images[i : i + 2]) for i in pairs], [labels[i : i + 2] for i in pairs], classes


def _choose(labels: np.ndarray, num: int, rng: np.random.Generator) -> list[int]:
    chosen: list[int] = []
    for _ in range(num):
        first = rng.integers(len(labels))
        others = np.flatnonzero(labels != labels[first])
        chosen += [int(first), int(rng.choice(others if len(others) else np.arange(len(labels))))]
    return chosen


def load_checkpoint(model: Config, checkpoint: str) -> dict[str, torch.Tensor]:
    """The weights of a model, checked to be its own."""
    weights = load_weights(checkpoint)
    expected = Method(model, model, None).classifier.state_dict()
    wrong = {key for key in {*expected, *weights} if not key.startswith((*OWN, 'data_preprocessor.'))}
    wrong = {
        key for key in wrong if key not in weights or key not in expected or weights[key].shape != expected[key].shape
    }
    if wrong:
        raise ValueError(
            f"--checkpoint: '{checkpoint}' is not of the model of --config; {len(wrong)} weights are missing, unknown "
            f'or of another shape, such as {sorted(wrong)[:3]}. Give the config that it was trained by.'
        )
    return {key: weight for key, weight in weights.items() if not key.startswith('data_preprocessor.')}


def find_columns(args: argparse.Namespace, model: Config, weights: dict | None) -> dict:
    """Method and augment of each column: each folder's own mixer, then mmpretrain's; or each row of an ablation."""
    find = find_ablation(CONFIGS, args.ablation, args.model) if args.ablation else find_configs(CONFIGS, args.model)
    if not find:
        raise ValueError(
            f"No configs of '{args.model}' in {CONFIGS}"
            + (f"/ablation for '{args.ablation}'." if args.ablation else '.')
        )
    columns, stock, left_out = {}, {}, {}
    for name, path in find.items():
        try:
            method = Method(Config.fromfile(path), model, weights)
        except (ValueError, OSError, ImportError) as error:
            left_out[name] = str(error)
            continue
        own = [augment for augment in method.augments if isinstance(augment, BatchMixer)]
        others = [augment for augment in method.augments if not isinstance(augment, BatchMixer)]
        if args.ablation:
            # Mixup's is no mask; it stands beside CutMix in the configs of one.
            columns[name] = method, (own or others)[-1]
            continue
        if own:
            columns[name] = method, own[0]
        for augment in others:
            stock.setdefault(type(augment).__name__, (method, augment))
    columns |= stock
    unknown = set(args.methods or ()) - columns.keys() - left_out.keys()
    if unknown:
        raise ValueError(f'--methods: unknown are {sorted(unknown)}; there are {sorted({*columns, *left_out})}.')
    for name, reason in left_out.items():
        if not args.methods or name in args.methods:
            print(f'Left out: {name}. {reason}')
    chosen = {}
    for name, (method, augment) in columns.items():
        if args.methods and name not in args.methods:
            continue
        if weights is None and isinstance(augment, BatchMixer) and augment.guided:
            print(f'{name} follows where the model looks, and this one is untrained: give --checkpoint.')
            name = f'{name} (untrained)'
        chosen[name] = method, augment
    return chosen


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('browse', log_level='WARNING')  # otherwise a line for each parameter
    init_default_scope('mmpretrain')
    model = Config.fromfile(args.config or CONFIGS / f'mixpro/{args.model}_8xb128_in1k.py')
    weights = load_checkpoint(model, args.checkpoint) if args.checkpoint else None
    batches, labels, classes = load_pairs(args, image_size(model))
    columns = find_columns(args, model, weights)

    known = len(classes) == model.model.head.num_classes
    if weights is not None and not known:
        print(f'No alpha: the data have {len(classes)} classes, the model {model.model.head.num_classes}.')
    preprocessor = MODELS.build(dict(type='MixDataPreprocessor', **model.data_preprocessor))
    inputs = [preprocessor(dict(inputs=batch))['inputs'] for batch in batches]
    targets = [torch.tensor(own) if known else None for own in labels]
    mixed: dict[str, list[MixedImage]] = {}
    for name, (method, augment) in columns.items():
        try:
            mixed[name] = [
                method.mix(augment, images, target, args.seed + i)
                for i, (images, target) in enumerate(zip(inputs, targets, strict=True))
            ]
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            print(f'Left out: {name}. {error}')
    if not mixed:
        raise ValueError('All methods were left out, for the reasons above.')
    pairs = [
        Pair(
            to_rgb(images, preprocessor), (classes[own], classes[other]), {name: row[i] for name, row in mixed.items()}
        )
        for i, (images, (own, other)) in enumerate(zip(inputs, labels, strict=True))
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(draw_sheet(pairs, args.masks))
    print(f'Drawn: {args.out}')


if __name__ == '__main__':
    main()
