# Copyright (c) MMMixPro contributors.
import random
import re

import cv2
import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from mmmixpro.attention import class_attention
from mmmixpro.mixing import MixProBatchAugment, TransMixBatchAugment
from mmmixpro.structures import MixPlan
from mmmixpro.visualization import draw_mixed, mixed
from mmmixpro.visualization.mixed import batch_alpha

NAMES = ['ant', 'bee', 'cat', 'dog', 'eel', 'fox', 'a very long name of a gnu']
NORMALISE = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


@pytest.fixture
def build(classifier_cfg, redraw):
    """A classifier with random weights, four images and their labels, and the images as they were."""

    def build(
        to_rgb=True, in_memory=False, augments=(dict(type='MixProBatchAugment', mask_size=32, mode='elem'),), **kwargs
    ):
        preprocessor = dict(num_classes=7, to_rgb=to_rgb, **NORMALISE)
        model = MODELS.build(classifier_cfg(augments=augments, data_preprocessor=preprocessor, **kwargs))
        rgb = torch.randint(256, (4, 3, 64, 96), dtype=torch.uint8)
        images = model.data_preprocessor(dict(inputs=rgb if in_memory else rgb.flip(1)))['inputs']
        return redraw(model), images, torch.tensor([3, 1, 6, 0]), rgb.permute(0, 2, 3, 1).numpy()

    return build


@pytest.fixture
def figure(monkeypatch):
    """The figure instead of its file, and the plan behind it."""

    def figure(model, images, labels, **kwargs):
        plans = []
        mixer = kwargs.pop('mixer', model.augment.augments[0])
        draw = mixer.draw
        monkeypatch.setattr(mixer, 'draw', lambda *args: plans.append(draw(*args)) or plans[0])
        monkeypatch.setattr(mixed, 'to_png', lambda figure: figure)
        drawn = draw_mixed(model, images, labels, NAMES, mixer=mixer, **kwargs)
        return np.array(drawn.axes).reshape(4, len(images)), plans[0]

    return figure


def shown(ax, layer=0):
    return np.asarray(ax.images[layer].get_array())


def captions(axes):
    return [ax.get_xlabel().split('\n') for ax in axes[3]]


@pytest.mark.parametrize('to_rgb', [True, False])
@pytest.mark.parametrize('in_memory', [True, False])
def test_images_in_their_own_colours(build, figure, to_rgb, in_memory):
    """Files are read in BGR, data sets like CIFAR have RGB; either may be turned around for the model."""
    model, images, labels, rgb = build(to_rgb, in_memory)
    axes, plan = figure(model, images, labels, in_memory=in_memory)
    for i, (j, mask) in enumerate(zip(plan.partner.tolist(), plan.pixel_mask().numpy(), strict=True)):
        np.testing.assert_array_equal(shown(axes[0, i]), rgb[i])
        np.testing.assert_array_equal(shown(axes[1, i]), rgb[j])
        expected = np.where(mask[..., None], rgb[i], rgb[j])
        np.testing.assert_array_equal(shown(axes[2, i]), expected)
        np.testing.assert_array_equal(shown(axes[3, i]), expected)


@pytest.mark.parametrize('backbone', ['vit', 'pvt'])
def test_attention_and_weights(build, figure, vit_cfg, pvt_cfg, backbone):
    cfg = vit_cfg(img_size=(64, 96)) if backbone == 'vit' else pvt_cfg(img_size=(64, 96))
    model, images, labels, _ = build(backbone=cfg)
    if backbone == 'pvt':
        model.head.layers.head = torch.nn.Linear(32, 7)
    axes, plan = figure(model, images, labels)
    model.eval()
    with torch.no_grad(), class_attention(model.backbone, (64, 96)) as tap:
        logits = model.head(model.backbone(plan.mix_images(images)))
    for i, ax in enumerate(axes[3]):
        np.testing.assert_array_equal(shown(ax, 1), tap.map[i])
        assert ax.images[1].get_extent() == [-0.5, 95.5, 63.5, -0.5]

    mask = plan.pixel_mask().float()
    area = mask.mean((1, 2))
    share = (torch.nn.functional.adaptive_avg_pool2d(mask, tap.map.shape[1:]) * tap.map).sum((1, 2))
    scores = torch.eye(7)[labels]
    target = area[:, None] * scores + (1 - area)[:, None] * scores[plan.partner]
    alpha = torch.cosine_similarity(logits.softmax(1), target)
    final = alpha * share + (1 - alpha) * area
    short = ['dog', 'bee', 'a very long name…', 'ant']
    for i, (j, caption) in enumerate(zip(plan.partner.tolist(), captions(axes), strict=True)):
        assert caption[:2] == [short[i], f'+ {short[j]}']
        values = dict(zip(('λ area', 'λ attn', 'α', 'λ'), (area[i], share[i], alpha[i], final[i]), strict=True))
        for line, (name, value) in zip(caption[2:], values.items(), strict=True):
            drawn = re.fullmatch(rf'{name} (\d\.\d\d)', line)
            assert float(drawn[1]) == pytest.approx(value.item(), abs=0.0051)


def test_alpha_of_a_batch_is_what_is_drawn(build, figure):
    model, images, labels, _ = build()
    alpha = batch_alpha(model, images, labels, seed=3)
    axes, _ = figure(model, images, labels, seed=3)
    assert [f'α {value:.2f}' for value in alpha] == [caption[4] for caption in captions(axes)]
    assert len(set(alpha)) == 4


def test_labels_without_alpha(build):
    model, images, labels, _ = build(type='MixClassifier')
    with pytest.raises(ValueError, match='AreaLabels have no alpha'):
        batch_alpha(model, images, labels)


@pytest.mark.parametrize(
    ('labels', 'weighs'),
    [
        (dict(type='AreaLabels'), lambda area, share: area),
        (dict(type='AttentionLabels', area_weight=0.25), lambda area, share: 0.25 * area + 0.75 * share),
    ],
)
def test_other_label_policies(build, figure, labels, weighs):
    model, images, targets, _ = build(labels=labels)
    axes, _ = figure(model, images, targets)
    for caption in captions(axes):
        values = [float(line.split()[-1]) for line in caption[2:]]
        assert [line.rsplit(' ', 1)[0] for line in caption[2:]] == ['λ area', 'λ attn', 'λ']
        assert values[2] == pytest.approx(weighs(*values[:2]), abs=0.0151)


@pytest.mark.parametrize('nearest', [True, False])
def test_attention_is_shared_as_the_labels_do(build, figure, nearest):
    model, images, targets, _ = build(type='MixClassifier', labels=dict(type='AttentionLabels', nearest=nearest))
    axes, plan = figure(model, images, targets, mixer=TransMixBatchAugment(), seed=3)
    attention = torch.tensor(np.stack([shown(ax, 1) for ax in axes[3]]))
    share = [(attention * plan.coverage(4, 6, nearest=choice)).sum((1, 2)) for choice in (nearest, not nearest)]
    assert [caption[3] for caption in captions(axes)] == [f'λ attn {value:.2f}' for value in share[0]]
    assert (share[0] - share[1]).abs().max() > 0.02


@pytest.mark.parametrize('mixer', [MixProBatchAugment(mask_size=40), TransMixBatchAugment()])
def test_borders_stand_where_the_images_meet(build, figure, mixer):
    model, images, labels, _ = build(type='MixClassifier')
    axes, plan = figure(model, images, labels, mixer=mixer, seed=3)
    masks = plan.pixel_mask().expand(4, -1, -1).numpy()
    for ax, mask in zip(axes[2], masks, strict=True):
        across, down = np.zeros((63, 96), bool), np.zeros((64, 95), bool)
        for (x1, y1), (x2, y2) in ax.collections[0].get_segments():
            x, y = (slice(int(a + 0.5), int(b + 0.5)) for a, b in ((x1, x2), (y1, y2)))
            assert (x1 == x2) != (y1 == y2)
            assert max(x1, x2) <= 95.5
            assert max(y1, y2) <= 63.5
            if y1 == y2:
                across[y.start - 1, x] = True
            else:
                down[y, x.start - 1] = True
        np.testing.assert_array_equal(across, mask[1:] != mask[:-1])
        np.testing.assert_array_equal(down, mask[:, 1:] != mask[:, :-1])
    assert masks.any() and not masks.all()


def test_shared_mask(build, figure):
    model, images, labels, _ = build()
    mixer = model.augment.augments[0]
    plan = MixPlan(torch.tensor([1, 0, 3, 2]), torch.tensor([[[True, False, True], [False] * 3]]), 32, (64, 96))
    mixer.draw = lambda *_: plan
    axes, _ = figure(model, images, labels)
    assert [len(ax.collections[0].get_segments()) for ax in axes[2]] == [4] * 4


def test_png(build):
    model, images, labels, _ = build()
    sizes = []
    for num in (2, 3):
        png = draw_mixed(model, images[:num], labels[:num], NAMES)
        sizes.append(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).shape)
    (height, width, _), (same, wider, _) = sizes
    assert height == same
    assert wider - width == pytest.approx(1.3 * 1.06 * 200, abs=2)
    # Four rows of images, two thirds as high as wide, and the captions.
    assert 4 * 1.3 * 200 * 2 / 3 < height < 6 * 1.3 * 200


def test_random_state_and_mode_stay(build):
    model, images, labels, _ = build(backbone=None)
    model.train()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    first = draw_mixed(model, images, labels, NAMES, seed=1)
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1][1])
    assert torch.equal(torch.get_rng_state(), states[2])
    assert all(module.training for module in model.modules())

    random.random(), np.random.rand(), torch.rand(1)
    assert draw_mixed(model, images, labels, NAMES, seed=1) == first
    assert draw_mixed(model, images, labels, NAMES, seed=2) != first


def test_a_seed_reaches_every_generator(build, monkeypatch):
    model, images, labels, _ = build()
    mixer, drawn = model.augment.augments[0], []
    draw = mixer.draw

    def draw_and_note(*args):
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
        return draw(*args)

    monkeypatch.setattr(mixer, 'draw', draw_and_note)
    for seed in (1, 1, 2):
        draw_mixed(model, images, labels, NAMES, seed=seed)
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])


def test_eval_mode(build, vit_cfg):
    model, images, labels, _ = build(backbone=vit_cfg(drop_rate=0.5, img_size=(64, 96)))
    training = draw_mixed(model.train(), images, labels, NAMES)
    assert training == draw_mixed(model.eval(), images, labels, NAMES)


def test_images_stay(build):
    model, images, labels, _ = build()
    before = images.clone()
    draw_mixed(model, images, labels, NAMES)
    assert torch.equal(images, before)


def test_backbone_without_attention(build):
    backbone = dict(type='ResNet', depth=18)
    model, images, labels, _ = build(type='MixClassifier', backbone=backbone)
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match='ResNet has no known class attention'):
        draw_mixed(model, images, labels, NAMES)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


def test_wrong_classifiers(build):
    model, images, labels, _ = build(augments=[dict(type='Mixup', alpha=0.8)])
    with pytest.raises(ValueError, match=r'Expected a mixer among .*, found none. Give one'):
        draw_mixed(model, images, labels, NAMES)
    assert draw_mixed(model, images, labels, NAMES, mixer=MixProBatchAugment(mask_size=32))
    with pytest.raises(TypeError, match='expects a MixClassifier or PALClassifier, got VisionTransformer'):
        draw_mixed(model.backbone, images, labels, NAMES)
