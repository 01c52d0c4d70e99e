# Copyright (c) MMMixPro contributors.
"""Iteration-based training, of a segmentor, killed again and again."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

# Narrow and flat, on small images; the rest is the config's.
CONFIG = """
_base_ = '{root}/configs/segmentation/segmenter_deit-s_8xb2-80k_pascal-context-480x480.py'
custom_imports = dict(imports=['mmmixpro', 'probe'], allow_failed_imports=False)
custom_hooks = [dict(type='mmpretrain.ProbeHook')]
default_hooks = dict(checkpoint=dict(interval=3), logger=dict(interval=1))
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=32,
        init_cfg=dict(_delete_=True, type='TruncNormal', layer='Linear', std=0.02)),
    decode_head=dict(in_channels=16, channels=16, embed_dims=16, num_heads=2),
    test_cfg=dict(crop_size=(32, 32), stride=(16, 16)))
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(scale=(48, 48))
train_pipeline[3].update(crop_size=(32, 32))
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(pipeline=train_pipeline, serialize_data=False))
val_dataloader = dict(num_workers=0, dataset=dict(serialize_data=False))
train_cfg = dict(max_iters=20, val_interval=20)
"""


@pytest.fixture
def segmentor(tiny, monkeypatch):
    """The config of a run of 20 iterations, saved each third; 11 images to train on, seen more than once."""
    root = tiny.folder / 'VOC2010'
    config = tiny.config.parent / 'segmentor.py'
    monkeypatch.setenv('PASCAL_CONTEXT_ROOT', str(root))
    if config.exists():
        return config
    rng = np.random.default_rng(0)
    for folder in ('JPEGImages', 'SegmentationClassContext', 'ImageSets/SegmentationContext'):
        (root / folder).mkdir(parents=True)
    for split, num in dict(train=11, val=1).items():
        names = [f'{split}{i}' for i in range(num)]
        (root / f'ImageSets/SegmentationContext/{split}.txt').write_text('\n'.join(names))
        for name in names:
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(root / f'JPEGImages/{name}.jpg')
            Image.fromarray(rng.integers(0, 60, (40, 48), np.uint8)).save(root / f'SegmentationClassContext/{name}.png')
    config.write_text(CONFIG.format(root=tiny.root))
    return config


def seen(tiny, work_dir, ranks):
    """Of each rank and iteration, the images of each time that it was run."""
    found = []
    for rank in range(ranks or 1):
        visits = {}
        for line in (tiny.folder / work_dir / f'seen{rank}.txt').read_text().splitlines():
            iteration, *names = line.split()
            visits.setdefault(int(iteration), []).append(names)
        found.append(visits)
    return found


@pytest.mark.parametrize(
    ('kills', 'ranks'),
    [(1, None), pytest.param(5, None, marks=pytest.mark.slow), pytest.param(5, 2, marks=pytest.mark.slow)],
)
def test_killed_segmentation_goes_on(kills, ranks, tiny, segmentor):
    whole, killed = f'whole{kills}{ranks}', f'killed{kills}{ranks}'
    tiny.run('--work-dir', whole, config=segmentor, ranks=ranks)
    # Wherever: the seed fixture must not fix it. Not before the first checkpoint, and each later than the one before.
    iterations = sorted(random.SystemRandom().sample(range(3, 20), kills))
    resume = []
    for iteration in iterations:
        tiny.kill_at(iteration, killed, *resume, config=segmentor, ranks=ranks)
        resume = ['--resume']
    tiny.run('--work-dir', killed, '--resume', config=segmentor, ranks=ranks)

    promised = seen(tiny, whole, ranks)
    for rank, visits in enumerate(seen(tiny, killed, ranks)):
        assert visits.keys() == promised[rank].keys() == set(range(20))
        # Each resumed run begins after the last checkpoint, and sees what was promised.
        for iteration, names in promised[rank].items():
            again = sum(stop - stop % 3 <= iteration <= stop for stop in iterations)
            assert len(names) == 1
            assert visits[iteration] == names * (1 + again), (iterations, iteration)
    images = [name for rank in promised for names in rank.values() for name in names[0]]
    # All of them before any comes again.
    assert len(set(images[:11] if ranks is None else images)) == 11
    assert len(images) == 40 * (ranks or 1)
    expected, found = (tiny.weights(f'{folder}/iter_20.pth') for folder in (whole, killed))
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert torch.equal(weight, found[name]), (iterations, name)
