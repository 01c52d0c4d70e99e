# Copyright (c) MMMixPro contributors.
"""From a pretraining run's checkpoint to COCO, as the configs do it."""

import importlib.util
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import METRICS, MODELS

from mmmixpro.engine.launch import use_faster_coco

CocoDataset = pytest.importorskip('mmdet.datasets').CocoDataset
CONFIGS = Path(__file__).parents[2] / 'configs'
# As PVT's released code for detection has them; the rates are for batches of 16.
SIZES = dict(t=('tiny', 0.1), s=('small', 0.1), m=('medium', 0.0), l=('large', 0.0))
DETECTORS = {'mask-rcnn': ('MaskRCNN', 2e-4, ['bbox', 'segm']), 'retinanet': ('RetinaNet', 1e-4, 'bbox')}
LEAVES = [
    (detector, size, f'detection/{detector}_pvt-{size}_fpn_1x_coco.py') for detector in DETECTORS for size in SIZES
]
NAMES = [name for *_, name in LEAVES]
needs_ops = pytest.mark.skipif(importlib.util.find_spec('mmcv._ext') is None, reason="needs mmcv's compiled ops")


def test_all_leaves_are_here():
    assert sorted(NAMES) == sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob('detection/*.py'))


@pytest.mark.parametrize(('detector', 'size', 'name'), LEAVES, ids=NAMES)
def test_leaf_has_the_published_settings(detector, size, name):
    cfg = Config.fromfile(CONFIGS / name)
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.drop_path_rate, backbone.out_type) == (*SIZES[size], 'featmap')
    assert f'work_dirs/mixpro/pvt-{size}_8xb128_in1k/' in backbone.init_cfg.checkpoint
    # The exceptions that the config declares, and no others.
    assert backbone.init_cfg.allow_unexpected == ['cls_token', 'norm.weight', 'norm.bias']
    assert cfg.model.neck.in_channels == [64, 128, 320, 512]
    type, lr, metric = DETECTORS[detector]
    optimizer = cfg.optim_wrapper.optimizer
    assert (cfg.model.type, cfg.model.neck.type) == (type, 'FPN')
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', lr, 1e-4)
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler[1].milestones) == (12, [8, 11])
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    for split in ('val', 'test'):
        assert (cfg[f'{split}_evaluator'].type, cfg[f'{split}_evaluator'].metric) == ('CocoMetric', metric)
    for split in ('train', 'val', 'test'):
        (load,) = (s for s in cfg[f'{split}_dataloader'].dataset.pipeline if s.type == 'LoadAnnotations')
        assert load.with_bbox and load.with_mask == (detector == 'mask-rcnn')


@pytest.mark.parametrize('size', SIZES)
def test_detectors_share_their_backbone(size):
    first, second = (Config.fromfile(CONFIGS / name).model.backbone for _, of, name in LEAVES if of == size)
    assert first.to_dict() == second.to_dict()


@pytest.mark.parametrize('name', NAMES)
def test_pvt_into_detection(name, load_config, pvt, backbone_weights):
    cfg = load_config(name, pvt)
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    stored, state = backbone_weights(pvt), backbone.state_dict()
    assert stored.keys() - state.keys() == set(cfg.model.backbone.init_cfg.allow_unexpected)
    assert not state.keys() - stored.keys()
    assert all(torch.equal(state[k], stored[k]) for k in state if k != 'stages.3.pos_embed')
    assert torch.equal(state['stages.3.pos_embed'], stored['stages.3.pos_embed'][:, 1:])
    maps = backbone(torch.randn(1, 3, 64, 96))
    assert [m.shape[1:] for m in maps] == [(8, 16, 24), (8, 8, 12), (16, 4, 6), (16, 2, 3)]


@needs_ops
@pytest.mark.slow
@pytest.mark.parametrize(('detector', 'size', 'name'), LEAVES, ids=NAMES)
def test_two_iterations_and_an_image(detector, size, name, load_config, pvt, coco, run, backbone_weights):
    cfg = load_config(name, pvt)
    for split in ('train', 'val', 'test'):
        for step in cfg[f'{split}_dataloader'].dataset.pipeline:
            if step.type == 'Resize':
                step.scale = (160, 128)
    # Two images, one batch: two epochs are two iterations.
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    test_cfg = cfg.model.test_cfg
    test_cfg.get('rcnn', test_cfg).score_thr = 0.0
    runner = run(cfg)
    assert (Path(runner.work_dir) / 'epoch_2.pth').is_file()
    assert (runner.iter, len(runner.val_dataloader.dataset)) == (2, 1)
    # Each weight of the backbone has left the place where the checkpoint put it, and not by much.
    stored, state = backbone_weights(pvt), runner.model.backbone.state_dict()
    stored['stages.3.pos_embed'] = stored['stages.3.pos_embed'][:, 1:]
    assert not [key for key in state if torch.equal(state[key], stored[key])]
    assert all(torch.allclose(state[key], stored[key], atol=1e-3) for key in state)
    metrics = DETECTORS[detector][2]
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        assert -1 <= runner.message_hub.get_scalar(f'val/coco/{metric}_mAP').current() <= 1


@pytest.mark.slow
def test_both_metrics_give_the_same_figures(coco):
    """Boxes and masks around the true one, more or less close to it."""
    cfg = Config.fromfile(CONFIGS / 'detection/mask-rcnn_pvt-s_fpn_1x_coco.py')
    scores = torch.rand(8)
    boxes = torch.tensor([16.0, 16.0, 80.0, 64.0]) + 4 * torch.randn(8, 4)
    masks = torch.zeros(8, 96, 128, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().int(), strict=True):
        mask[top:bottom, left:right] = True
    instances = dict(bboxes=boxes, scores=scores, labels=torch.zeros(8, dtype=torch.long), masks=masks)
    figures = []
    for _ in range(2):
        metric = METRICS.build(dict(cfg.val_evaluator, _scope_='mmdet'))
        metric.dataset_meta = CocoDataset.METAINFO
        metric.process({}, [dict(img_id=0, ori_shape=(96, 128), pred_instances=instances)])
        figures.append((type(metric).__name__, metric.evaluate(1)))
        use_faster_coco(cfg)
    (first, expected), (second, found) = figures
    assert (first, second) == ('CocoMetric', 'FasterCocoMetric')
    assert found == expected
    assert 0 < found['coco/bbox_mAP'] < 1 and 0 < found['coco/segm_mAP'] < 1
