# Copyright (c) MMMixPro contributors.
"""From a pretraining run's checkpoint to segmentation and detection, as the configs do it."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from oracles.resize import cubic
from PIL import Image
from torch.utils.data import Dataset

import mmmixpro  # noqa: F401

CONFIGS = Path(__file__).parents[2] / 'configs'
LINEAR, SEGMENTER = (
    f'segmentation/{head}_deit-s_8xb2-80k_pascal-context-480x480.py' for head in ('linear', 'segmenter')
)
DETECTOR = 'detection/mask-rcnn_pvt-s_fpn_1x_coco.py'
DEIT = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
PVT = dict(
    embed_dims=[8, 8, 16, 16],
    num_layers=[1, 1, 1, 1],
    num_heads=[1, 1, 1, 1],
    mlp_ratios=[1, 1, 1, 1],
    sr_ratios=[8, 4, 2, 1],
)
needs_ops = pytest.mark.skipif(importlib.util.find_spec('mmcv._ext') is None, reason="needs mmcv's compiled ops")


class Images(Dataset):
    metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return 4

    def __getitem__(self, i):
        image = torch.full((3, 224, 224), 60 * i, dtype=torch.uint8)
        return dict(inputs=image, data_samples=DataSample().set_gt_label(i % 2))


def pretrain(leaf, folder, arch):
    """Two steps of a pretraining config, narrow and flat; returns what its runner saved."""
    cfg = Config.fromfile(CONFIGS / leaf)
    cfg.model.backbone.arch = arch
    cfg.model.head.in_channels = 16
    loader = dict(batch_size=2, num_workers=0, collate_fn=dict(type='default_collate'), dataset=Images())
    runner = Runner(
        model=cfg.model,
        data_preprocessor=cfg.data_preprocessor,
        work_dir=str(folder),
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


@pytest.fixture(scope='module')
def deit(tmp_path_factory):
    return pretrain('mixpro/deit-s_8xb128_in1k.py', tmp_path_factory.mktemp('deit'), DEIT)


@pytest.fixture(scope='module')
def pvt(tmp_path_factory):
    return pretrain('mixpro/pvt-s_8xb128_in1k.py', tmp_path_factory.mktemp('pvt'), PVT)


def load_config(name, checkpoint=None):
    """A config with a model as narrow and flat as the pretrained one, else as it is."""
    cfg = Config.fromfile(CONFIGS / name)
    if name == DETECTOR:
        cfg.model.backbone.arch = PVT
        cfg.model.neck.in_channels = PVT['embed_dims']
    else:
        cfg.model.backbone.arch = DEIT
        head = dict(in_channels=16, channels=16)
        if name == SEGMENTER:
            head.update(embed_dims=16, num_heads=2)
        cfg.model.decode_head.update(head)
    if checkpoint:
        cfg.merge_from_dict({'model.backbone.init_cfg.checkpoint': checkpoint})
    return cfg


def build(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model


def backbone_weights(checkpoint):
    weights = torch.load(checkpoint, weights_only=False)['state_dict']
    return {k.removeprefix('backbone.'): v for k, v in weights.items() if k.startswith('backbone.')}


@pytest.mark.parametrize('name', [LINEAR, SEGMENTER])
def test_deit_into_segmentation(name, deit):
    model = build(load_config(name, deit))
    stored, state = backbone_weights(deit), model.backbone.state_dict()
    assert stored.keys() == state.keys()
    assert [k for k in state if state[k].shape != stored[k].shape] == ['pos_embed']
    assert all(torch.equal(state[key], stored[key]) for key in state if key != 'pos_embed')

    position, grid = stored['pos_embed'].numpy()[0, :1], stored['pos_embed'].numpy()[0, 1:]
    resize = cubic(14, 30)
    expected = np.einsum('yi,xj,ijc->yxc', resize, resize, grid.reshape(14, 14, 16).astype(float))
    assert np.array_equal(state['pos_embed'][0, :1].numpy(), position)
    assert np.abs(state['pos_embed'][0, 1:].numpy() - expected.reshape(900, 16)).max() < 1e-6


def test_pvt_into_detection(pvt):
    cfg = load_config(DETECTOR, pvt)
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    stored, state = backbone_weights(pvt), backbone.state_dict()
    # The exceptions that the config declares, and no others.
    assert stored.keys() - state.keys() == set(cfg.model.backbone.init_cfg.allow_unexpected)
    assert not state.keys() - stored.keys()
    assert all(torch.equal(state[k], stored[k]) for k in state if k != 'stages.3.pos_embed')
    assert torch.equal(state['stages.3.pos_embed'], stored['stages.3.pos_embed'][:, 1:])

    maps = backbone(torch.randn(1, 3, 64, 96))
    assert [m.shape[1:] for m in maps] == [(8, 16, 24), (8, 8, 12), (16, 4, 6), (16, 2, 3)]
    assert Config.fromfile(CONFIGS / DETECTOR).model.neck.in_channels == [64, 128, 320, 512]


@pytest.mark.parametrize('name', [LINEAR, SEGMENTER, DETECTOR])
def test_checkpoint_of_another_model(name, deit, pvt):
    """Its refusal reaches the user through the whole model, and through the environment."""
    other = deit if name == DETECTOR else pvt
    with pytest.raises(ValueError, match=rf'Cannot load {other}.*\n  missing in the checkpoint'):
        MODELS.build(load_config(name, other).model.backbone).init_weights()


@pytest.mark.parametrize('name', [LINEAR, SEGMENTER, DETECTOR])
def test_checkpoint_from_the_environment(name, monkeypatch):
    monkeypatch.delenv('MIXPRO_CHECKPOINT', raising=False)
    with pytest.raises(FileNotFoundError, match=r'work_dirs/mixpro/(deit|pvt)-s_8xb128_in1k/epoch_300\.pth'):
        MODELS.build(load_config(name).model.backbone).init_weights()
    monkeypatch.setenv('MIXPRO_CHECKPOINT', '/nowhere/mine.pth')
    with pytest.raises(FileNotFoundError, match=r'/nowhere/mine\.pth'):
        MODELS.build(load_config(name).model.backbone).init_weights()


def test_data_from_the_environment(monkeypatch):
    monkeypatch.setenv('PASCAL_CONTEXT_ROOT', '/data/context')
    monkeypatch.setenv('COCO_ROOT', '/data/coco')
    for name, root in ((LINEAR, '/data/context'), (DETECTOR, '/data/coco')):
        cfg = Config.fromfile(CONFIGS / name)
        assert {cfg[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')} == {root}
    assert cfg.val_evaluator.ann_file == '/data/coco/annotations/instances_val2017.json'


def seg_batch(sizes):
    samples = []
    for size in sizes:
        sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size))
        samples.append(sample.set_data(dict(gt_sem_seg=PixelData(data=torch.randint(0, 60, (1, *size))))) or sample)
    return dict(
        inputs=[torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes],
        data_samples=samples,
    )


@pytest.mark.parametrize('name', [LINEAR, SEGMENTER])
def test_segmentation_step(name, deit):
    cfg = load_config(name, deit)
    cfg.optim_wrapper.optimizer.lr = 10.0  # so that no step is lost to rounding
    model = build(cfg)
    before = {key: value.clone() for key, value in model.named_parameters()}
    losses = model.train_step(seg_batch([(480, 480)] * 2), build_optim_wrapper(model, cfg.optim_wrapper))
    assert torch.isfinite(losses['loss'])
    assert not [key for key, value in model.named_parameters() if torch.equal(value, before[key])]


@pytest.mark.parametrize('name', [LINEAR, SEGMENTER])
@pytest.mark.parametrize('size', [(390, 520), (520, 390), (700, 500)])
def test_sliding_window(name, size, deit):
    model = build(load_config(name, deit)).eval()
    windows = []
    model.backbone.register_forward_pre_hook(lambda _, args: windows.append(tuple(args[0].shape[2:])))
    (result,) = model.test_step(seg_batch([size]))
    assert result.pred_sem_seg.data.shape == (1, *size)
    assert result.seg_logits.data.shape == (60, *size)
    # Whole patches only, none larger than in training.
    assert len(windows) > 1
    assert all(side % 16 == 0 and side <= 480 for window in windows for side in window)


def test_linear_is_one_layer_on_each_token(deit):
    """Its logits, written out: normalise, tokens, one matrix, bilinear upsampling."""
    cfg = load_config(LINEAR, deit)
    model = build(cfg).eval()
    head = model.decode_head.conv_seg
    assert [name for name, _ in model.decode_head.named_parameters()] == ['conv_seg.weight', 'conv_seg.bias']
    batch = seg_batch([(480, 480)])
    (bgr,) = batch['inputs']
    mean, std = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])[..., None, None]
    (tokens,) = model.backbone(((bgr.flip(0) - mean) / std)[None])
    logits = torch.einsum('ocij,nchw->nohw', head.weight, tokens) + head.bias[:, None, None]
    logits = torch.nn.functional.interpolate(logits, size=(480, 480), mode='bilinear')
    (result,) = model.test_step(batch)
    assert torch.allclose(result.seg_logits.data, logits[0], atol=1e-4)


@pytest.fixture
def pascal_context(tmp_path, monkeypatch):
    """Two images for each split, in the layout that mmseg's converter makes."""
    root = tmp_path / 'VOC2010'
    for folder in ('JPEGImages', 'SegmentationClassContext', 'ImageSets/SegmentationContext'):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        names = [f'{split}_{i}' for i in range(2)]
        (root / f'ImageSets/SegmentationContext/{split}.txt').write_text('\n'.join(names))
        for name in names:
            image = rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)
            labels = rng.integers(0, 60, (375, 500), dtype=np.uint8)
            Image.fromarray(image).save(root / f'JPEGImages/{name}.jpg')
            Image.fromarray(labels).save(root / f'SegmentationClassContext/{name}.png')
    monkeypatch.setenv('PASCAL_CONTEXT_ROOT', str(root))


def run(cfg, folder):
    """Train as the config says, but briefly and in this process."""
    cfg.work_dir = str(folder)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].num_workers = 0
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_segmentation_run(deit, pascal_context, tmp_path):
    cfg = load_config(SEGMENTER, deit)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    runner = run(cfg, tmp_path / 'run')
    assert (tmp_path / 'run' / 'iter_2.pth').is_file()
    assert 0 <= runner.message_hub.get_scalar('val/mIoU').current() <= 100

    # Multi-scale and flip testing, on the first of the two images.
    pipeline = cfg.tta_pipeline
    dataset = runner.val_dataloader.dataset
    with DefaultScope.overwrite_default_scope('mmseg'):
        tta = MODELS.build(dict(**cfg.tta_model, module=runner.model))
        views = Compose(pipeline)(dataset.get_data_info(0))
    assert len(views['inputs']) == 12
    evaluator = Evaluator(runner.val_evaluator.metrics)
    # The two smallest of the six scales, plain and mirrored.
    batch = {key: [[view] for view in value[:4]] for key, value in views.items()}
    (merged,) = tta.test_step(batch)
    assert merged.pred_sem_seg.data.shape[-2:] == (375, 500)
    evaluator.process([merged], batch)
    assert 'mIoU' in evaluator.evaluate(1)


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """Two images for each split with a box of class 1, in COCO's layout."""
    from mmdet.datasets import CocoDataset

    root = tmp_path / 'coco'
    (root / 'annotations').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ('train2017', 'val2017'):
        (root / split).mkdir()
        images, annotations = [], []
        for i in range(2):
            Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(root / split / f'{i}.jpg')
            images.append(dict(id=i, file_name=f'{i}.jpg', height=96, width=128))
            x, y, w, h = 16, 16, 64, 48
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                dict(
                    id=i + 1,
                    image_id=i,
                    category_id=1,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[outline],
                )
            )
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(CocoDataset.METAINFO['classes'])]
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / f'annotations/instances_{split}.json').write_text(json.dumps(content))
    monkeypatch.setenv('COCO_ROOT', str(root))


@needs_ops
@pytest.mark.slow
def test_detection_run(pvt, coco, tmp_path):
    cfg = load_config(DETECTOR, pvt)
    for pipeline in ('train', 'val', 'test'):
        for transform in cfg[f'{pipeline}_dataloader'].dataset.pipeline:
            if transform.type == 'Resize':
                transform.scale = (160, 128)
    cfg.train_cfg.max_epochs = 1
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    runner = run(cfg, tmp_path / 'run')
    stored, state = backbone_weights(pvt), runner.model.backbone.state_dict()
    stored['stages.3.pos_embed'] = stored['stages.3.pos_embed'][:, 1:]
    assert not [key for key in state if torch.equal(state[key], stored[key])]
    for metric in ('bbox_mAP', 'segm_mAP'):
        assert -1 <= runner.message_hub.get_scalar(f'val/coco/{metric}').current() <= 1
