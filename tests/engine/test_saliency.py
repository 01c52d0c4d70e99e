# Copyright (c) MMMixPro contributors.
"""What tells salient patches, against attention computed from the weights by hand."""

import numpy as np
import pytest
import timm
import torch
from mmpretrain.registry import MODELS, TASK_UTILS
from mmpretrain.structures import DataSample
from oracles.attention import full_attention

from mmmixpro.utils.convert import vit_from_timm

PREPROCESSOR = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
MEAN, STD = np.array(PREPROCESSOR['mean']), np.array(PREPROCESSOR['std'])
CHOICES = ('GuideAttentionSaliency', 'StoredMapSaliency', "kinds=['random']")


def build(name, **kwargs):
    return TASK_UTILS.build(dict(type=name, **kwargs))


@pytest.fixture
def dino(redraw):
    """timm's ViT of two blocks and four heads without a classifier, as the official file has it."""
    model = timm.models.VisionTransformer(
        img_size=64, patch_size=16, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2, num_classes=0
    )
    return redraw(model).eval()


@pytest.fixture
def guide_cfg(vit_cfg):
    arch = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
    return dict(type='ImageClassifier', backbone=vit_cfg(arch=arch), data_preprocessor=PREPROCESSOR)


@pytest.fixture
def images():
    """BGR, as mmpretrain reads them."""
    return torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)


@torch.no_grad()
def class_rows(dino, images):
    """``(N, heads, 4, 4)``: what the class token gives the patches in the last block, in NumPy from its weights."""
    rgb = (images.numpy()[:, ::-1].transpose(0, 2, 3, 1) - MEAN) / STD
    tokens = []
    last = dino.blocks[-1]
    handle = last.norm1.register_forward_hook(lambda module, args, output: tokens.append(output))
    dino(torch.from_numpy(rgb.transpose(0, 3, 1, 2)).float())
    handle.remove()
    qkv = last.attn.qkv(tokens[0]).double().numpy().reshape(len(images), 17, 3, 4, 8)
    query, key = qkv[:, :, 0].transpose(0, 2, 1, 3), qkv[:, :, 1].transpose(0, 2, 1, 3)
    rows = [full_attention(q, k)[:, 0, 1:] for q, k in zip(query, key, strict=True)]
    return np.stack(rows).reshape(len(images), 4, 4, 4)


@pytest.mark.parametrize('head', [None, 0, 1, 3])
def test_guide_by_the_official_file(dino, guide_cfg, images, classifier, tmp_path, head):
    torch.save(dino.state_dict(), tmp_path / 'dino.pth')
    saliency = build('GuideAttentionSaliency', checkpoint=str(tmp_path / 'dino.pth'), model=guide_cfg, head=head)
    saliency.prepare(classifier())
    maps = saliency(images, [])
    rows = class_rows(dino, images)
    expected = rows.mean(1) if head is None else rows[:, head]
    expected /= expected.sum((1, 2), keepdims=True)
    np.testing.assert_allclose(maps.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert not maps.requires_grad
    name = 'mean over heads' if head is None else f'head {head}'
    assert saliency.describe() == f'class attention of {tmp_path}/dino.pth (VisionTransformer, {name})'


def test_guide_sees_rgb(dino, guide_cfg, images, classifier, tmp_path):
    """Of files, which are read in BGR and turned, and of CIFAR's images, which are RGB and stay so."""
    torch.save(dino.state_dict(), tmp_path / 'dino.pth')
    expected = class_rows(dino, images).mean(1)
    expected /= expected.sum((1, 2), keepdims=True)
    for to_rgb, given in ((True, images), (False, images.flip(1))):
        model = classifier()
        model.data_preprocessor.to_rgb = to_rgb
        saliency = build('GuideAttentionSaliency', checkpoint=str(tmp_path / 'dino.pth'), model=guide_cfg)
        saliency.prepare(model)
        np.testing.assert_allclose(saliency(given, []).numpy(), expected, rtol=1e-4, atol=1e-6)


def test_guide_by_a_checkpoint_of_mmpretrain(dino, guide_cfg, images, classifier, tmp_path):
    """What belongs to a head is ignored."""
    weights = {**vit_from_timm(dino.state_dict()), 'head.layers.head.weight': torch.rand(7, 32)}
    torch.save(dino.state_dict(), tmp_path / 'official.pth')
    torch.save(dict(state_dict=weights, meta=dict()), tmp_path / 'ours.pth')
    maps = []
    for name in ('official.pth', 'ours.pth'):
        saliency = build('GuideAttentionSaliency', checkpoint=str(tmp_path / name), model=guide_cfg)
        saliency.prepare(classifier())
        maps.append(saliency(images, []))
    assert torch.equal(*maps)


def test_guide_that_does_not_fit(dino, guide_cfg, classifier, tmp_path):
    def prepare(checkpoint, model):
        build('GuideAttentionSaliency', checkpoint=str(checkpoint), model=model).prepare(classifier())

    with pytest.raises(FileNotFoundError, match='DINO_CHECKPOINT') as error:
        prepare(tmp_path / 'none.pth', guide_cfg)
    assert all(choice in str(error.value) for choice in CHOICES)
    torch.save({k: v for k, v in dino.state_dict().items() if 'blocks.1' not in k}, tmp_path / 'half.pth')
    with pytest.raises(ValueError, match=r'missing in the checkpoint .*backbone.layers.1'):
        prepare(tmp_path / 'half.pth', guide_cfg)
    torch.save(dino.state_dict(), tmp_path / 'dino.pth')
    no_token = dict(guide_cfg, backbone=dict(guide_cfg['backbone'], out_type='avg_featmap'))
    with pytest.raises(ValueError, match='GuideAttentionSaliency cannot tell .* no class token'):
        prepare(tmp_path / 'dino.pth', no_token)


@pytest.mark.parametrize('family', ['vit', 'pvt', 'cait', 'ca_swin', 'xcit'])
def test_one_head_of_each_family(classifier, backbone_cfg, images, family):
    """The mean over heads is the mean of the heads, weighed by what they give the patches at all."""
    model = classifier(backbone=backbone_cfg(family))
    maps = []
    for head in (None, 0, 1, 2, 3):
        saliency = build('OwnAttentionSaliency', head=head)
        saliency.prepare(model)
        maps.append(saliency(images, []))
        torch.testing.assert_close(maps[-1].sum((1, 2)), torch.ones(3))
    mean, *heads = maps
    assert all(not torch.allclose(heads[0], other) for other in heads[1:])
    stacked = torch.stack(heads, 1).flatten(2)
    for image, single in zip(mean.flatten(1).double(), stacked.double(), strict=True):
        weights = torch.linalg.lstsq(single.T, image).solution
        torch.testing.assert_close(single.T @ weights, image, rtol=0, atol=1e-5)
        assert weights.min() > 0
    with pytest.raises(ValueError, match='head=4, but attention is given by 4: set 0 to 3'):
        saliency = build('OwnAttentionSaliency', head=4)
        saliency.prepare(model)
        saliency(images, [])


def test_a_model_without_class_attention():
    model = MODELS.build(dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18)))
    with pytest.raises(ValueError, match='ResNet has no known class attention') as error:
        build('OwnAttentionSaliency').prepare(model)
    assert all(choice in str(error.value) for choice in CHOICES)


def test_no_attention_to_padding(classifier):
    saliency = build('OwnAttentionSaliency')
    model = classifier()
    saliency.prepare(model)
    with pytest.raises(ValueError, match='tokens of 16 px, got 60 x 64 px') as error:
        saliency(torch.zeros(1, 3, 60, 64, dtype=torch.uint8), [])
    assert all(choice in str(error.value) for choice in CHOICES)
    model.data_preprocessor.pad_size_divisor = 32
    with pytest.raises(ValueError, match='makes 64 x 64'):
        saliency(torch.zeros(1, 3, 48, 64, dtype=torch.uint8), [])


def test_stored_maps():
    saliency = build('StoredMapSaliency', key='map')
    maps = np.random.default_rng(0).random((3, 2, 5)).astype(np.float16)
    samples = [DataSample(map=value) for value in maps]
    np.testing.assert_array_equal(saliency(torch.zeros(3, 3, 4, 4), samples).numpy(), maps.astype(np.float32))
    with pytest.raises(ValueError, match=r"field map; 1 of 4 have none.*algorithm_keys=\['map'\]") as error:
        saliency(torch.zeros(4, 3, 4, 4), [*samples, DataSample()])
    assert 'LoadContentMap' in str(error.value)
    assert saliency.describe() == 'precomputed maps (field map of the samples)'
