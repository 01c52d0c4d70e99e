# Copyright (c) MMMixPro contributors.
"""Narrow, flat models; their checkpoints as a pretraining run saves them; data as they lie on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from PIL import Image
from torch.utils.data import Dataset

CONFIGS = Path(__file__).parents[2] / 'configs'
DEIT = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
PVT = dict(
    embed_dims=[8, 8, 16, 16],
    num_layers=[1, 1, 1, 1],
    num_heads=[1, 1, 1, 1],
    mlp_ratios=[1, 1, 1, 1],
    sr_ratios=[8, 4, 2, 1],
)


class Images(Dataset):
    metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return 4

    def __getitem__(self, i):
        image = torch.full((3, 224, 224), 60 * i, dtype=torch.uint8)
        return dict(inputs=image, data_samples=DataSample().set_gt_label(i % 2))


def pretrain(leaf, folder):
    """Two steps of a pretraining config, narrow and flat; returns what its runner saved."""
    cfg = Config.fromfile(CONFIGS / leaf)
    cfg.model.backbone.arch = DEIT if 'deit' in leaf else PVT
    cfg.model.head.in_channels = 16
    loader = dict(batch_size=2, num_workers=0, collate_fn=dict(type='default_collate'), dataset=Images())
    runner = Runner(
        model=cfg.model,
        data_preprocessor=cfg.data_preprocessor,
        work_dir=str(folder),
        experiment_name=leaf.replace('/', '_'),
        train_dataloader=dict(**loader, sampler=cfg.train_dataloader.sampler),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=[{**cfg.param_scheduler[1], 'begin': 0}],
        default_hooks=cfg.default_hooks,
        custom_hooks=[dict(type='EMAHook')],
        default_scope=cfg.default_scope,
        randomness=cfg.randomness,
    )
    runner.train()
    return str(folder / 'epoch_1.pth')


@pytest.fixture(scope='session')
def pretrained(tmp_path_factory):
    """The checkpoint of a pretraining config, made when first asked for."""
    made = {}

    def pretrained(leaf):
        if leaf not in made:
            made[leaf] = pretrain(leaf, tmp_path_factory.mktemp('pretrained'))
        return made[leaf]

    return pretrained


@pytest.fixture
def deit(pretrained):
    return pretrained('mixpro/deit-s_8xb128_in1k.py')


@pytest.fixture
def pvt(pretrained):
    return pretrained('mixpro/pvt-s_8xb128_in1k.py')


@pytest.fixture
def load_config():
    """A downstream config with a model as narrow and flat as the pretrained ones, else as it is."""

    def load_config(name, checkpoint=None):
        cfg = Config.fromfile(CONFIGS / name)
        model = cfg.model
        model.backbone.arch = DEIT if 'deit' in name else PVT
        if 'neck' in model:
            model.neck.in_channels = PVT['embed_dims']
        elif 'decode_head' in model:
            model.decode_head.update(in_channels=16, channels=16)
            if 'embed_dims' in model.decode_head:
                model.decode_head.update(embed_dims=16, num_heads=2)
        else:
            model.head.in_channels = 16
        if checkpoint:
            cfg.merge_from_dict({'model.backbone.init_cfg.checkpoint': checkpoint})
        return cfg

    return load_config


@pytest.fixture
def shrink_images():
    """A fifth of a segmentation config's image size, in training, windows and the views of multi-scale testing."""

    def smaller(value):
        return tuple(round(v / 5) for v in value)

    def shrink_images(cfg):
        cfg.model.data_preprocessor.size = smaller(cfg.model.data_preprocessor.size)
        cfg.model.backbone.img_size //= 5
        test_cfg = cfg.model.test_cfg
        test_cfg.update(crop_size=smaller(test_cfg.crop_size), stride=smaller(test_cfg.stride))
        pipelines = [cfg[f'{split}_dataloader'].dataset.pipeline for split in ('train', 'val', 'test')]
        for step in [*pipelines[0], *pipelines[1], *pipelines[2], *cfg.tta_pipeline[1].transforms[0]]:
            for key in {'scale', 'crop_size'} & step.keys():
                step[key] = smaller(step[key])
        return cfg

    return shrink_images


@pytest.fixture
def build():
    def build(cfg):
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(cfg.model)
            model.init_weights()
        return model

    return build


@pytest.fixture
def backbone_weights():
    def backbone_weights(checkpoint):
        weights = torch.load(checkpoint, weights_only=False)['state_dict']
        return {k.removeprefix('backbone.'): v for k, v in weights.items() if k.startswith('backbone.')}

    return backbone_weights


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Train as a config says, but in this process."""
    # For the log alone, four times a run: laying out its text takes longer than the steps.
    monkeypatch.setattr(Config, 'pretty_text', '')

    def run(cfg):
        cfg.work_dir = str(tmp_path / 'run')
        cfg.experiment_name = f'{tmp_path.parent.name}_{tmp_path.name}'
        for split in ('train', 'val', 'test'):
            loader = cfg[f'{split}_dataloader']
            loader.num_workers = 0
            # Serialising collects garbage, which takes seconds within pytest.
            loader.dataset.serialize_data = False
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    return run


@pytest.fixture
def seg_batch():
    def seg_batch(sizes):
        samples = []
        for size in sizes:
            sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size))
            sample.gt_sem_seg = PixelData(data=torch.randint(0, 59, (1, *size)))
            samples.append(sample)
        inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
        return dict(inputs=inputs, data_samples=samples)

    return seg_batch


@pytest.fixture
def pascal_context(tmp_path, monkeypatch):
    """Two images to train with, one to evaluate, in the layout that mmseg's converter makes."""
    root = tmp_path / 'VOC2010'
    for folder in ('JPEGImages', 'SegmentationClassContext', 'ImageSets/SegmentationContext'):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, num in dict(train=2, val=1).items():
        names = [f'{split}_{i}' for i in range(num)]
        (root / f'ImageSets/SegmentationContext/{split}.txt').write_text('\n'.join(names))
        for name in names:
            # Blocks of 10 px, for what changes with each pixel vanishes in a smaller view.
            image = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
            labels = rng.integers(0, 60, (15, 20), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
            Image.fromarray(image).save(root / f'JPEGImages/{name}.jpg')
            Image.fromarray(labels).save(root / f'SegmentationClassContext/{name}.png')
    monkeypatch.setenv('PASCAL_CONTEXT_ROOT', str(root))
    return root


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """Two images to train with, one to evaluate, with a box of class 1, in COCO's layout."""
    from mmdet.datasets import CocoDataset

    root = tmp_path / 'coco'
    (root / 'annotations').mkdir(parents=True)
    rng = np.random.default_rng(0)
    x, y, w, h = 16, 16, 64, 48
    box = dict(
        category_id=1,
        bbox=[x, y, w, h],
        area=w * h,
        iscrowd=0,
        segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
    )
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CocoDataset.METAINFO['classes'])]
    for split, num in dict(train2017=2, val2017=1).items():
        (root / split).mkdir()
        for i in range(num):
            Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(root / split / f'{i}.jpg')
        content = dict(
            images=[dict(id=i, file_name=f'{i}.jpg', height=96, width=128) for i in range(num)],
            annotations=[dict(box, id=i + 1, image_id=i) for i in range(num)],
            categories=categories,
        )
        (root / f'annotations/instances_{split}.json').write_text(json.dumps(content))
    monkeypatch.setenv('COCO_ROOT', str(root))
    return root
