# Copyright (c) MMMixPro contributors.
"""From a pretraining run's checkpoint to Pascal Context, as the configs do it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, DefaultScope
from oracles.resize import cubic
from PIL import Image

import mmmixpro  # noqa: F401

CONFIGS = Path(__file__).parents[2] / 'configs'
LINEAR, SEGMENTER = (
    f'segmentation/{head}_deit-s_8xb2-80k_pascal-context-480x480.py' for head in ('linear', 'segmenter')
)
# Of each DeiT the channels and heads, which the mask transformer shares with it (heads of 64 channels).
SIZES = dict(t=('deit-tiny', 192, 3), s=('deit-small', 384, 6), b=('deit-base', 768, 12))
LEAVES = [
    (head, size, classes, f'segmentation/{head}_deit-{size}_8xb2-80k_pascal-context{suffix}-480x480.py')
    for head in ('linear', 'segmenter')
    for size in SIZES
    for classes, suffix in ((60, ''), (59, '-59'))
]
NAMES = [name for *_, name in LEAVES]


def test_all_leaves_are_here():
    assert sorted(NAMES) == sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob('segmentation/*.py'))


@pytest.mark.parametrize(('head', 'size', 'classes', 'name'), LEAVES, ids=NAMES)
def test_leaf_has_the_published_settings(head, size, classes, name):
    """Table 3's, and mmseg's recipe for Segmenter."""
    cfg = Config.fromfile(CONFIGS / name)
    arch, dims, heads = SIZES[size]
    backbone, decoder = cfg.model.backbone, cfg.model.decode_head
    assert (backbone.arch, backbone.img_size, backbone.drop_path_rate) == (arch, 480, 0.1)
    assert f'work_dirs/mixpro/deit-{size}_8xb128_in1k/' in backbone.init_cfg.checkpoint
    assert (decoder.in_channels, decoder.channels, decoder.num_classes) == (dims, dims, classes)
    if head == 'segmenter':
        assert decoder.type == 'SegmenterMaskTransformerHead'
        assert (decoder.embed_dims, decoder.num_heads, decoder.num_layers) == (dims, heads, 2)
        assert dims == 64 * heads
    else:
        assert (decoder.type, decoder.num_convs, decoder.dropout_ratio) == ('FCNHead', 0, 0.0)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ('SGD', 1e-3, 0.9, 0.0)
    (schedule,) = cfg.param_scheduler
    assert (schedule.type, schedule.power, schedule.end, cfg.train_cfg.max_iters) == ('PolyLR', 0.9, 80000, 80000)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    assert (cfg.model.test_cfg.mode, cfg.model.test_cfg.crop_size) == ('slide', (480, 480))
    kind = 'PascalContextDataset' + ('59' if classes == 59 else '')
    assert [cfg[f'{split}_dataloader'].dataset.type for split in ('train', 'val', 'test')] == [kind] * 3


@pytest.mark.parametrize('name', NAMES)
def test_two_iterations_and_an_image(name, load_config, shrink_images, deit, pascal_context, run, backbone_weights):
    cfg = shrink_images(load_config(name, deit))
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    runner = run(cfg)
    assert (Path(runner.work_dir) / 'iter_2.pth').is_file()
    assert len(runner.val_dataloader.dataset) == 1
    assert 0 <= runner.message_hub.get_scalar('val/mIoU').current() <= 100
    assert torch.isfinite(torch.tensor(runner.message_hub.get_scalar('train/loss').data[0])).all()
    # Two steps at this rate leave the backbone where the checkpoint put it, far from where it is drawn.
    stored, state = backbone_weights(deit), runner.model.backbone.state_dict()
    assert all(torch.allclose(state[key], stored[key], atol=1e-2) for key in state if key != 'pos_embed')


@pytest.mark.parametrize('classes', [60, 59])
def test_labels(classes, load_config, pascal_context):
    """Of 59 classes the background is not one: it becomes 255, which nothing counts."""
    name = next(name for *_, num, name in LEAVES if num == classes)
    cfg = load_config(name)
    cfg.val_dataloader.dataset.serialize_data = False  # which collects garbage, and takes long
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
    stored = np.asarray(Image.open(pascal_context / 'SegmentationClassContext/val_0.png')).astype(int)
    assert (stored == 0).any() and (stored == 59).any()
    labels = dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()
    expected = stored if classes == 60 else np.where(stored == 0, 255, stored - 1)
    assert np.array_equal(labels, expected)
    assert len(dataset.metainfo['classes']) == classes


@pytest.mark.parametrize('name', [LINEAR, SEGMENTER])
def test_deit_into_segmentation(name, load_config, deit, build, backbone_weights):
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


@pytest.mark.parametrize('name', [LINEAR, SEGMENTER])
def test_every_weight_learns(name, load_config, deit, build, seg_batch):
    cfg = load_config(name, deit)
    cfg.optim_wrapper.optimizer.lr = 10.0  # so that no step is lost to rounding
    model = build(cfg)
    before = {key: value.clone() for key, value in model.named_parameters()}
    losses = model.train_step(seg_batch([(480, 480)] * 2), build_optim_wrapper(model, cfg.optim_wrapper))
    assert torch.isfinite(losses['loss'])
    assert not [key for key, value in model.named_parameters() if torch.equal(value, before[key])]


@pytest.mark.parametrize('name', [LINEAR, SEGMENTER])
@pytest.mark.parametrize('size', [(390, 520), (520, 390), (700, 500)])
def test_sliding_window(name, size, load_config, deit, build, seg_batch):
    model = build(load_config(name, deit)).eval()
    windows = []
    model.backbone.register_forward_pre_hook(lambda _, args: windows.append(tuple(args[0].shape[2:])))
    (result,) = model.test_step(seg_batch([size]))
    assert result.pred_sem_seg.data.shape == (1, *size)
    assert result.seg_logits.data.shape == (60, *size)
    # Whole patches only, none larger than in training.
    assert len(windows) > 1
    assert all(side % 16 == 0 and side <= 480 for window in windows for side in window)


def test_linear_is_one_layer_on_each_token(load_config, deit, build, seg_batch):
    """Its logits, written out: normalise, tokens, one matrix, bilinear upsampling."""
    model = build(load_config(LINEAR, deit)).eval()
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
