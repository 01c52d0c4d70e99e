#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Compute the activation maps of a training set once, for TokenMix without a teacher in training.

python tools/precompute_maps.py configs/tokenmix/deit-s_8xb128_in1k.py --out data/tokenmix_maps
TOKENMIX_MAPS=data/tokenmix_maps python tools/train.py configs/tokenmix/deit-s_precomputed_8xb128_in1k.py

The config names the data and the teacher. The teacher sees each image whole, resized to a square. Stopped, the same
command goes on where it was. The maps of ImageNet-1k take 0.5 GB at the default size (14 x 14 of a ResNet).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import BATCH_AUGMENTS, DATASETS, MODELS
from rich.console import Console
from rich.progress import Progress
from torch.utils.data import Dataset, Subset

import mmmixpro  # noqa: F401  (first: `mmmixpro::` in a config resolves once it is imported)
from mmmixpro.datasets.content_maps import ContentMapWriter
from mmmixpro.engine.preflight import check_data_paths
from mmmixpro.mixing import TokenMix

FLUSH_EVERY = 50  # batches


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of TokenMix with a teacher')
    parser.add_argument('--out', required=True, type=Path, help='folder of the maps')
    parser.add_argument('--img-size', type=int, default=448, help='side of the image that the teacher sees')
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--num-workers', type=int, default=8)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='default: %(default)s')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings that override the config')
    return parser.parse_args()


def find_mixer(cfg: Config) -> TokenMix:
    """The config's TokenMix, which has a teacher."""
    for augment in cfg.model.get('train_cfg', {}).get('augments', []):
        if augment.type == 'TokenMix' and augment.get('teacher'):
            return BATCH_AUGMENTS.build(augment)
    raise ValueError(
        f'{cfg.filename} has no TokenMix with a teacher in model.train_cfg.augments. Take the config of TokenMix that '
        'is not precomputed, such as configs/tokenmix/deit-s_8xb128_in1k.py.'
    )


def fill(writer: ContentMapWriter, cfg: Config, mixer: TokenMix, dataset: Dataset, args: argparse.Namespace) -> None:
    """Compute what is still missing."""
    mixer.init_weights()
    settings = dict(type='MixDataPreprocessor', num_classes=cfg.model.head.num_classes, to_onehot=True)
    preprocessor = MODELS.build({**cfg.data_preprocessor, **settings}).to(args.device)
    loader = Runner.build_dataloader(
        dict(
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            pin_memory=args.device != 'cpu',
            collate_fn=dict(type='default_collate'),
            dataset=Subset(dataset, writer.order[writer.done :]),
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
    )
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task('activation maps', total=len(dataset), completed=writer.done)
        for index, batch in enumerate(loader, 1):
            data = preprocessor(batch, training=True)
            maps = mixer.teacher.activation(data['inputs'], data['data_samples'], mixer.top_k)
            writer.write(maps.cpu().numpy())
            if index % FLUSH_EVERY == 0:
                writer.flush()
            progress.update(task, completed=writer.done)
    writer.flush()


def main() -> None:
    args = parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    init_default_scope(cfg.default_scope)
    mixer = find_mixer(cfg)
    check_data_paths(cfg, ('train_dataloader',))

    resize = dict(type='Resize', scale=(args.img_size, args.img_size), backend='pillow', interpolation='bicubic')
    pipeline = [cfg.train_dataloader.dataset.pipeline[0], resize, dict(type='PackInputs')]
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=pipeline))
    source = dict(teacher=mixer.teacher.cfg.to_dict(), top_k=mixer.top_k, img_size=args.img_size)
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    writer = ContentMapWriter(args.out, paths, source)

    if writer.done < len(paths):
        fill(writer, cfg, mixer, dataset, args)
    print(f'{len(paths)} maps: {args.out}')


if __name__ == '__main__':
    main()
