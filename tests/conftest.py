# Copyright (c) MMMixPro contributors.
import random

import globals_of_mmengine
import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

import mmmixpro  # noqa: F401 (registers everything)

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_globals(monkeypatch):
    """The default scope, the loggers and what a runner counts end with the test that makes them."""
    globals_of_mmengine.forget(monkeypatch)


@pytest.fixture(autouse=True)
def seed():
    """Every test draws the same numbers, in whatever order the tests run."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def forget_graphs():
    """Graphs of other tests count towards torch's limit."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def redraw():
    """Draws every parameter anew: what starts at zero or one would hide mistakes."""

    @torch.no_grad()
    def redraw(module):
        for param in module.parameters():
            scale = 3 / param[0].numel() ** 0.5 if param.ndim > 1 else 0.5
            param.normal_(std=scale)
        return module

    return redraw


@pytest.fixture
def make_batch():
    """Random images, no two pixels alike, and the samples that the data preprocessor makes of labels."""

    def make_batch(num, size=(64, 64), num_classes=7, dtype=torch.float32):
        images = torch.randn(num, 3, *size).to(dtype)
        scores = torch.eye(num_classes)[torch.arange(num) % num_classes]
        return images, [DataSample().set_gt_score(score) for score in scores], scores

    return make_batch


@pytest.fixture
def vit_cfg():
    """Config of a DeiT with 4 layers, 4 heads and patches of 16 px."""

    def vit_cfg(type='VisionTransformer', **kwargs):
        arch = dict(embed_dims=32, num_layers=4, num_heads=4, feedforward_channels=64)
        return {**dict(type=type, arch=arch, img_size=64, patch_size=16), **kwargs}

    return vit_cfg


@pytest.fixture
def pvt_cfg():
    """Config of a narrow PVT with 1, 1, 1 and 2 blocks."""

    def pvt_cfg(**kwargs):
        arch = dict(
            embed_dims=[8, 16, 24, 32],
            num_layers=[1, 1, 1, 2],
            num_heads=[1, 2, 3, 4],
            mlp_ratios=[2, 2, 2, 2],
            sr_ratios=[8, 4, 2, 1],
        )
        return {**dict(type='PVT', arch=arch, img_size=64), **kwargs}

    return pvt_cfg


@pytest.fixture
def cait_cfg():
    """Config of a CaiT with 2 layers, 2 class attention layers, 4 heads and patches of 16 px."""

    def cait_cfg(**kwargs):
        arch = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
        return {**dict(type='CaiT', arch=arch, img_size=64), **kwargs}

    return cait_cfg


@pytest.fixture
def ca_swin_cfg():
    """Config of a narrow CA-Swin with 1, 1, 1 and 2 blocks, whose windows are small enough for 64 px."""

    def ca_swin_cfg(**kwargs):
        arch = dict(embed_dims=4, depths=[1, 1, 1, 2], num_heads=[1, 1, 2, 4])
        return {**dict(type='CASwin', arch=arch, img_size=64, window_size=2), **kwargs}

    return ca_swin_cfg


@pytest.fixture
def xcit_cfg():
    """Config of an XCiT with 2 layers, 2 class attention layers, 4 heads and patches of 16 px."""

    def xcit_cfg(**kwargs):
        return {**dict(type='XCiT', embed_dims=32, depth=2, num_heads=4, img_size=64, tokens_norm=True), **kwargs}

    return xcit_cfg


@pytest.fixture
def backbone_cfg(vit_cfg, pvt_cfg, cait_cfg, ca_swin_cfg, xcit_cfg):
    """Config of a small backbone of a family, of 32 channels."""

    def backbone_cfg(family, **kwargs):
        families = dict(vit=vit_cfg, pvt=pvt_cfg, cait=cait_cfg, ca_swin=ca_swin_cfg, xcit=xcit_cfg)
        return families[family](**kwargs)

    return backbone_cfg


@pytest.fixture
def classifier_cfg(vit_cfg):
    """Config of a classifier around a backbone with 32 channels."""

    def classifier_cfg(type='PALClassifier', backbone=None, augments=(), probs=None, eps=0.1, **kwargs):
        loss = dict(type='LabelSmoothLoss', label_smooth_val=eps, mode='original')
        head = dict(type='VisionTransformerClsHead', num_classes=7, in_channels=32, loss=loss)
        train_cfg = dict(augments=list(augments), probs=probs or [1.0 / max(len(augments), 1)] * len(augments))
        backbone = backbone or vit_cfg()
        return {**dict(type=type, backbone=backbone, head=head, train_cfg=train_cfg), **kwargs}

    return classifier_cfg
