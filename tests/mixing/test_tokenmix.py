# Copyright (c) MMMixPro contributors.

import numpy as np
import pytest
import torch
from oracles import mixing
from oracles import tokenmix as oracle

from mmmixpro.mixing import TokenMix

RESNET = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=7, in_channels=64),
)
VIT = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=64,
        patch_size=16,
        out_type='featmap',
    ),
    head=dict(type='VisionTransformerClsHead', num_classes=7, in_channels=32),
)


@pytest.fixture
def build(redraw):
    """A mixer whose teacher is ready."""

    def build(teacher=RESNET, **kwargs):
        mixer = TokenMix(teacher, **kwargs)
        mixer.init_weights()
        redraw(mixer.teacher.module)
        return mixer

    return build


def masks_of(plan, num, size):
    cells = plan.mask.expand(num, -1, -1).numpy()
    return [mixing.expand_mask(each, plan.cell, *size) for each in cells]


# Masks.


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ('num', 'size', 'kwargs'),
    [
        (1, (96, 96), dict()),
        (4, (224, 224), dict()),
        (3, (72, 120), dict(mask_size=8, min_block_tokens=3)),
        (3, (84, 132), dict(mask_ratio=0.7)),
        (2, (96, 128), dict(mask_ratio=4 / 7, min_block_tokens=1)),
    ],
)
def test_block_plan_is_the_oracles(num, size, kwargs, dtype, check_plan, reseed):
    mixer = TokenMix(**kwargs)
    grid = [-(-side // mixer.mask_size) for side in size]
    images = torch.randn(num, 3, *size).to(dtype)
    for seed in range(3):
        reseed(seed)
        plan = mixer.draw(images)
        reseed(seed)
        cells = oracle.block_cells(*grid, int(mixer.mask_ratio * grid[0] * grid[1]), mixer.min_block_tokens)
        check_plan(plan, images, [mixing.expand_mask(cells, mixer.mask_size, *size)] * num)
        assert plan.content is None


@pytest.mark.parametrize(('num', 'size'), [(1, (96, 96)), (4, (224, 224)), (3, (72, 120))])
def test_random_plan(num, size, check_plan):
    mixer = TokenMix(mask_type='random')
    images = torch.randn(num, 3, *size)
    plan = mixer.draw(images)
    tokens = plan.mask.numel()
    assert (~plan.mask).sum() == tokens // 2
    check_plan(plan, images, masks_of(plan, num, size))


@pytest.mark.parametrize('mask_type', ['block', 'random'])
def test_half_of_the_tokens_over_many_draws(mask_type):
    mixer, images = TokenMix(mask_type=mask_type), torch.zeros(2, 1, 224, 224)
    plans = [mixer.draw(images) for _ in range(1500)]
    counts = np.array([(~plan.mask).sum().item() for plan in plans])
    assert counts.max() == 98
    if mask_type == 'random':
        assert counts.min() == 98
    else:
        assert counts.min() > 84 and 97.4 < counts.mean() < 97.8
    lam = torch.stack([plan.lam for plan in plans])
    torch.testing.assert_close(lam, torch.tensor(1 - counts / 196).float()[:, None].expand(-1, 2))
    # Everywhere alike for tokens by themselves; blocks cover the middle nearly always, corners hardly ever.
    where = torch.cat([~plan.mask for plan in plans]).float().mean(0)
    if mask_type == 'random':
        assert (where - 0.5).abs().max() < 0.06
    else:
        assert where[6:8, 6:8].min() > 0.8 and 0.02 < where[0, 0] < 0.1
        torch.testing.assert_close(where, where.flip(0), rtol=0, atol=0.09)
        torch.testing.assert_close(where, where.T, rtol=0, atol=0.09)
    assert abs(sum(plan.partner[0].item() for plan in plans) - 750) < 100


def test_blocks_are_blocks():
    """Neighbours come from the same image far more often than where tokens are drawn by themselves."""
    borders = {}
    for mask_type in ('block', 'random'):
        mixer = TokenMix(mask_type=mask_type)
        masks = torch.cat([mixer.draw(torch.zeros(1, 1, 224, 224)).mask for _ in range(200)])
        borders[mask_type] = (masks[:, 1:] != masks[:, :-1]).float().mean().item()
    assert borders['random'] == pytest.approx(98 / 195, abs=0.02)
    assert borders['block'] < 0.2


def test_released_codes_share():
    mixer = TokenMix(mask_ratio=4 / 7, min_block_tokens=1)
    counts = [(~mixer.draw(torch.zeros(1, 1, 224, 224)).mask).sum().item() for _ in range(300)]
    assert max(counts) == np.median(counts) == 112 == 98 + 14


# Content.


def test_content_is_the_oracles_activation(build):
    mixer = build(mask_size=8)
    teacher = mixer.teacher.module
    images, scores = torch.randn(5, 3, 96, 160), torch.eye(7)[[3, 0, 6, 3, 1]]
    features = teacher.backbone(images)[-1].numpy()
    weight, bias = teacher.head.fc.weight.numpy(), teacher.head.fc.bias.numpy()
    for top_k in (1, 3, 7):
        mixer.top_k = top_k
        content = mixer.draw(images, None, scores).content
        pairs = zip(features, [3, 0, 6, 3, 1], strict=True)
        expected = [oracle.activation(each, weight, bias, label, top_k) for each, label in pairs]
        assert content.dtype == torch.float32
        assert not content.requires_grad
        np.testing.assert_allclose(content, expected, rtol=1e-5, atol=1e-5)
        assert 0 < (np.array(expected) > 0).mean() < 1


def test_pooled_activation_is_the_logit(build):
    """What the maps mean: their mean is what the teacher says of the image."""
    mixer = build(mask_size=8, top_k=7)
    images = torch.randn(4, 3, 64, 96)
    teacher = mixer.teacher.module
    teacher.head.fc.bias.data += 50  # so that nothing is clamped
    logits = teacher(images, mode='tensor')
    content = mixer.teacher.activation(images, torch.eye(7)[[1, 2, 5, 5]], 7)
    torch.testing.assert_close(content.mean((1, 2)), logits[range(4), [1, 2, 5, 5]], rtol=1e-4, atol=1e-4)


def test_teacher_without_neck(build):
    mixer = build(VIT, mask_size=8)
    content = mixer.draw(torch.randn(3, 3, 64, 64), None, torch.eye(7)[:3]).content
    assert content.shape == (3, 4, 4)


def test_images_and_scores_are_left_alone(build):
    mixer = build(mask_size=8)
    images, scores = torch.randn(4, 3, 64, 64), torch.eye(7)[:4]
    before = images.clone(), scores.clone()
    mixed, labels = mixer(images, scores)
    assert torch.equal(images, before[0]) and torch.equal(scores, before[1])
    assert not torch.equal(mixed, images)
    assert torch.allclose(labels.sum(1), torch.ones(4))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_teacher_under_autocast(build, dtype):
    mixer = build(mask_size=8)
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
        content = mixer.draw(torch.randn(2, 3, 64, 64), None, torch.eye(7)[:2]).content
    assert content.dtype == torch.float32 and content.isfinite().all()


@pytest.mark.parametrize('prob', [0, 0.25, 0.5, 1])
def test_prob_is_honoured(prob):
    mixer = TokenMix(mask_size=4, min_block_tokens=2, prob=prob)
    mixed = sum(mixer.plan(torch.zeros(2, 3, 16, 16)) is not None for _ in range(1000))
    assert abs(mixed - 1000 * prob) <= (70 if 0 < prob < 1 else 0)


# Mistakes.


@pytest.mark.parametrize(
    ('kwargs', 'named'),
    [
        (dict(teacher='resnet50.pth'), "teacher must be the config of a classifier.*got 'resnet50.pth'"),
        (dict(mask_type='blocks'), r"mask_type must be one of \['block', 'random'\], got 'blocks'"),
        (dict(mask_ratio=0), 'mask_ratio'),
        (dict(mask_ratio=1.0), 'mask_ratio'),
        (dict(min_block_tokens=0), 'min_block_tokens'),
        (dict(min_block_tokens=1.5), 'min_block_tokens'),
        (dict(top_k=0), 'top_k'),
        (dict(mask_size=0), 'mask_size'),
        (dict(prob=1.5), 'prob'),
    ],
)
def test_arguments_out_of_range_are_named(kwargs, named):
    with pytest.raises(ValueError, match=named):
        TokenMix(**kwargs)


def test_backbone_for_a_teacher():
    with pytest.raises(ValueError, match=r"config of a classifier, such as dict\(type='ImageClassifier'.*got a ResNet"):
        TokenMix(RESNET['backbone']).init_weights()


def test_teacher_of_other_classes(build):
    with pytest.raises(ValueError, match='ImageClassifier has 7 classes, the labels have 10'):
        build(mask_size=8).draw(torch.randn(2, 3, 64, 64), None, torch.eye(10)[:2])


def test_teacher_that_was_not_built():
    with pytest.raises(ValueError, match=r"ImageClassifier has not been built.*type='MixClassifier'"):
        TokenMix(RESNET, mask_size=8)(torch.randn(2, 3, 64, 64), torch.eye(7)[:2])


def test_teacher_without_maps(build):
    teacher = dict(VIT, backbone=dict(VIT['backbone'], out_type='cls_token'))
    with pytest.raises(ValueError, match=r'features of shape \(2, 32\)'):
        build(teacher, mask_size=8).draw(torch.randn(2, 3, 64, 64), None, torch.eye(7)[:2])


def test_teacher_needs_labels(build):
    with pytest.raises(ValueError, match='expected scores, found none'):
        build(mask_size=8).draw(torch.randn(2, 3, 64, 64))


def test_too_few_tokens():
    with pytest.raises(ValueError, match=r'0.5 of 4 x 5 tokens .*64 x 80 px\) are 10, expected 14'):
        TokenMix().draw(torch.zeros(2, 3, 64, 80))
    assert TokenMix(mask_type='random').draw(torch.zeros(2, 3, 64, 80)).mask.shape == (1, 4, 5)
