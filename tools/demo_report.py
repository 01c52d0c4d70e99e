# Copyright (c) MMMixPro contributors.
"""What the demo ends with: a table, results.json and report.html from the runs in its folder.

python tools/demo_report.py work_dirs/demo/shapes
"""

import argparse
import importlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.runner import load_checkpoint
from rich.console import Console
from rich.table import Table

import mmmixpro
from mmmixpro.visualization import (
    Instances,
    curve,
    draw_detection,
    draw_mixed,
    draw_segmentation,
    read_scalars,
    write_report,
)

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = dict(pretraining='mmpretrain', segmentation='mmseg', detection='mmdet')
PACKAGES = ('torch', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain', 'onedl-mmsegmentation', 'onedl-mmdetection')
# Task, name of its metric, the metric as it is logged, runs to compare.
COMPARISONS = [
    ('Segmentation', 'mIoU', 'mIoU', 'segment'),
    ('Detection', 'box AP', 'coco/bbox_mAP', 'detect'),
    ('Instance segmentation', 'mask AP', 'coco/segm_mAP', 'detect'),
]
METRICS = {'accuracy/top1', 'mIoU', 'mAcc', 'aAcc', 'coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/segm_mAP'}
NUM_PICTURES = 4
DATA = dict(
    shapes='generated scenes of ten kinds of shapes (mmmixpro/datasets/shapes.py)',
    real='real images: classes of Tiny ImageNet, street scenes of CamVid, and people in images of COCO',
)
MIXED_CAPTION = (
    "Validation images mixed by MaskMix, and where the trained DeiT looks. The image's own label counts as much as "
    'λ, which lies between its share of the pixels and its share of the attention; α is how far attention is trusted.'
)


def collect(record: dict) -> dict:
    """The demo's record, with what each run logged."""
    final = {}
    for stage in record['stages']:
        scalars = read_scalars(stage['work_dir'])
        stage['loss'] = curve(scalars, 'loss')
        stage['curve'] = [[step, _percent(value, stage['metric'])] for step, value in curve(scalars, stage['metric'])]
        # The last checkpoint, not the best.
        last = [line for line in scalars if stage['metric'] in line][-1]
        stage['final'] = {key: _percent(last[key], key) for key in last if key in METRICS}
        final[stage['name']] = stage['final']
    record['table'] = [
        dict(task=task, metric=name, mixpro=final[f'{runs}-mixpro'][key], scratch=final[f'{runs}-scratch'][key])
        for task, name, key, runs in COMPARISONS
    ]
    record['data'] = DATA[record['data']]
    record['seed'] = Config.fromfile(ROOT / record['stages'][0]['config']).randomness.seed
    record['versions'] = {'mmmixpro': mmmixpro.__version__} | {name: version(name) for name in PACKAGES}
    record['cores'] = len(os.sched_getaffinity(0))
    return record


def _percent(value: float, key: str) -> float:
    """COCO's AP comes as a fraction, all else in percent."""
    return 100 * value if key.startswith('coco/') else value


def print_table(results: dict) -> None:
    console = Console()
    stages = Table(title='Stages', title_justify='left')
    for column in ('stage', 'result', 'seconds'):
        stages.add_column(column, justify='left' if column == 'stage' else 'right')
    for stage in results['stages']:
        value = stage['final'][stage['metric']]
        stages.add_row(stage['title'], f'{stage["metric"]} {value:.1f}', f'{stage["seconds"]:.0f}')
    console.print(stages)
    top1 = next(stage['curve'] for stage in results['stages'] if stage['name'] == 'pretrain-deit')
    console.print('Top-1 of the DeiT by epoch: ' + ' '.join(f'{value:.1f}' for _, value in top1))
    table = Table(
        title='From the MixPro checkpoint and from scratch (same schedule, seed, last checkpoint)', title_justify='left'
    )
    for column in ('task', 'metric', 'MixPro', 'scratch', 'difference'):
        table.add_column(column, justify='left' if column in ('task', 'metric') else 'right')
    for row in results['table']:
        table.add_row(
            row['task'],
            row['metric'],
            f'{row["mixpro"]:.1f}',
            f'{row["scratch"]:.1f}',
            f'{row["mixpro"] - row["scratch"]:+.1f}',
        )
    console.print(table)


def load(stage: dict) -> tuple[Any, torch.nn.Module]:
    """Validation set and trained model of a run."""
    library = LIBRARIES[stage['group']]
    importlib.import_module(f'{library}.utils').register_all_modules(init_default_scope=True)
    registry = importlib.import_module(f'{library}.registry')
    cfg = Config.fromfile(ROOT / stage['config'])
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = registry.MODELS.build(cfg.model).eval()
    checkpoint = (Path(stage['work_dir']) / 'last_checkpoint').read_text().strip()
    load_checkpoint(model, checkpoint, map_location='cpu', strict=True, logger='silent')
    return registry.DATASETS.build(cfg.val_dataloader.dataset), model


def mixed_picture(stage: dict) -> bytes:
    dataset, model = load(stage)
    # Four classes, spread over the set, which is sorted by class.
    chosen = np.linspace(0, len(dataset) - 1, NUM_PICTURES)
    data = model.data_preprocessor(default_collate([dataset[int(i)] for i in chosen]))
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
    # A seed that pairs no image with itself.
    return draw_mixed(model, data['inputs'], labels, dataset.metainfo['classes'], seed=5)


@torch.no_grad()
def predictions(stages: list[dict]) -> tuple[Any, list, dict[str, list]]:
    """A few validation images, and what each of two models predicts for them."""
    found = {}
    for stage in stages:
        dataset, model = load(stage)
        chosen = np.linspace(0, len(dataset) - 1, NUM_PICTURES + 2).astype(int)[1:-1]
        found[f'from {stage["init"]}'] = model.test_step(pseudo_collate([dataset[int(i)] for i in chosen]))
    samples = next(iter(found.values()))
    return dataset, samples, found


def segmentation_picture(stages: list[dict]) -> bytes:
    dataset, samples, found = predictions(stages)
    truths = [sample.gt_sem_seg.data[0].numpy() for sample in samples]
    masks = {name: [sample.pred_sem_seg.data[0].numpy() for sample in of] for name, of in found.items()}
    meta = dataset.metainfo
    return draw_segmentation(
        [_read(sample) for sample in samples], truths, masks, meta['classes'], meta['palette'], dataset.ignore_index
    )


def detection_picture(stages: list[dict]) -> bytes:
    dataset, samples, found = predictions(stages)
    truths = [
        Instances(truth.bboxes.numpy(), truth.masks.to_ndarray().astype(bool), truth.labels.numpy())
        for truth in (sample.gt_instances for sample in samples)
    ]
    guesses = {
        name: [
            Instances(guess.bboxes.numpy(), guess.masks.numpy(), guess.labels.numpy(), guess.scores.numpy())
            for guess in (sample.pred_instances for sample in of)
        ]
        for name, of in found.items()
    }
    return draw_detection([_read(sample) for sample in samples], truths, guesses, dataset.metainfo['classes'])


def _read(sample: Any) -> np.ndarray:
    return mmcv.imread(sample.img_path, channel_order='rgb')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dir', type=Path, help='working directory of tools/demo.py')
    work_dir = parser.parse_args().work_dir
    record = work_dir / 'stages.json'
    if not record.is_file():
        raise SystemExit(f'{record} does not exist: run tools/demo.py first, with --work-dir {work_dir}.')
    results = collect(json.loads(record.read_text()))
    print_table(results)
    (work_dir / 'results.json').write_text(json.dumps(results, indent=2))
    runs = {stage['name']: stage for stage in results['stages']}
    pictures = [
        ('Mixed images', MIXED_CAPTION, mixed_picture(runs['pretrain-deit'])),
        (
            'Segmentation',
            'Images that no run has trained on, the truth, and both predictions.',
            segmentation_picture([runs['segment-mixpro'], runs['segment-scratch']]),
        ),
        (
            'Detection',
            'Likewise; predictions below a score of 0.3 are left out.',
            detection_picture([runs['detect-mixpro'], runs['detect-scratch']]),
        ),
    ]
    page = work_dir / 'report.html'
    write_report(page, results, pictures)
    print(f'Results: {work_dir / "results.json"}\nPage:    {page}')


if __name__ == '__main__':
    main()
