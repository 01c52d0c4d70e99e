# Copyright (c) MMMixPro contributors.
import copy
import math
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

MASKMIX = dict(type='MixProBatchAugment', mask_size=32)
STOCK = [dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]


@pytest.mark.parametrize('type', ['PALClassifier', 'MixClassifier'])
def test_one_forward_a_step(type, build, make_batch):
    model = build(type=type, augments=[MASKMIX])
    calls = []
    model.backbone.patch_embed.register_forward_hook(lambda *_: calls.append(1))
    images, samples, _ = make_batch(4)
    model.loss(images, samples)
    assert len(calls) == 1


@pytest.mark.parametrize('type', ['PALClassifier', 'MixClassifier'])
@pytest.mark.parametrize('augment', [*STOCK, None])
def test_stock_augments_keep_their_own_labels(augment, type, build, classifier_cfg, make_batch):
    """Same seed, same loss as mmpretrain's ImageClassifier."""
    augments = [augment] if augment else []
    ours = build(type=type, augments=augments)
    cfg = classifier_cfg(type='ImageClassifier', augments=augments)
    if not augments:
        cfg.pop('train_cfg')
    stock = MODELS.build({**cfg, 'data_preprocessor': dict(num_classes=7, to_onehot=True)})
    stock.load_state_dict(ours.state_dict())
    images, _, _ = make_batch(4)
    losses = []
    for model in (ours, stock):
        np.random.seed(3)
        torch.manual_seed(3)
        samples = [DataSample().set_gt_label(i) for i in range(4)]
        data = model.data_preprocessor(dict(inputs=images.clone(), data_samples=samples), training=True)
        losses.append(model.loss(**data)['loss'])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)


def test_evaluation_is_that_of_image_classifier(build, classifier_cfg, make_batch):
    model = build(augments=[MASKMIX])
    cfg = classifier_cfg(type='ImageClassifier')
    cfg.pop('train_cfg')
    stock = MODELS.build(cfg)
    assert stock.state_dict().keys() == model.state_dict().keys()
    stock.load_state_dict(model.state_dict())
    images, _, _ = make_batch(5)
    results = []
    for each in (model, stock):
        each.eval()
        samples = [DataSample().set_gt_label(i) for i in range(5)]
        results.append(each.val_step(dict(inputs=images, data_samples=samples)))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours.pred_score, theirs.pred_score)
        assert torch.equal(ours.pred_label, theirs.pred_label)
        assert torch.equal(ours.gt_label, theirs.gt_label)
    for mode in ('tensor', 'predict'):
        assert type(model(images, mode=mode)) is type(stock(images, mode=mode))
    assert torch.equal(model(images), stock(images))


@pytest.mark.parametrize('probs', [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.0, 0.3, 0.2]])
def test_augments_are_drawn_by_probs(probs, build, make_batch):
    model = build(augments=[MASKMIX, *STOCK], probs=probs)
    images, _, scores = make_batch(2)
    names = []
    for i, augment in enumerate(model.augment.augments[:3]):
        model.augment.augments[i] = type(
            type(augment).__name__, (), dict(__call__=lambda self, x, y: (x, (type(self).__name__, y)))
        )()
    for _ in range(800):
        plan, _, labels = model.mix(model.draw_augment(), images, scores)
        assert plan is None
        names.append(labels[0] if isinstance(labels, tuple) else None)
    counts = Counter(names)
    for name, prob in zip([*('MixProBatchAugment', 'Mixup', 'CutMix'), None], [*probs, 1 - sum(probs)], strict=True):
        spread = 5 * math.sqrt(800 * prob * (1 - prob))
        assert abs(counts[name] - 800 * prob) <= spread, counts


def test_prob_of_a_mixer_leaves_batches_unmixed(build, make_batch):
    model = build(augments=[dict(prob=0.5, **MASKMIX)])
    images, _, scores = make_batch(2)
    plans = [model.mix(model.draw_augment(), images, scores) for _ in range(400)]
    mixed = sum(plan is not None for plan, _, _ in plans)
    assert abs(mixed - 200) < 50
    for plan, inputs, labels in plans:
        assert (inputs is images) is (plan is None)
        assert labels is scores


def test_inputs_are_not_written_into(build, make_batch):
    model = build(augments=[MASKMIX])
    images, samples, scores = make_batch(4)
    before = images.clone()
    model.loss(images, samples)
    assert torch.equal(images, before)
    assert torch.equal(torch.stack([sample.gt_score for sample in samples]), scores)


def test_config_is_not_written_into(classifier_cfg):
    cfg = classifier_cfg(
        augments=[MASKMIX, STOCK[0]], probs=[0.5, 0.3], data_preprocessor=dict(mean=[1, 1, 1], std=[2, 2, 2])
    )
    before = copy.deepcopy(cfg)
    for _ in range(2):
        model = MODELS.build(cfg)
        assert cfg == before
    assert model.augment.probs == pytest.approx([0.5, 0.3, 0.2])


@pytest.mark.parametrize('probs', [None, [0.5], 0.5])
@pytest.mark.parametrize('augments', [MASKMIX, [MASKMIX]])
@pytest.mark.parametrize('type', ['MixClassifier', 'PALClassifier'])
def test_train_cfg_is_what_image_classifier_takes(type, augments, probs, classifier_cfg, make_batch):
    cfg = classifier_cfg(type=type, data_preprocessor=dict(num_classes=7))
    cfg['train_cfg'] = copy.deepcopy(dict(augments=augments, probs=probs))
    model = MODELS.build(cfg)
    images, samples, _ = make_batch(2)
    assert torch.isfinite(model.loss(images, samples)['loss'])


@pytest.mark.parametrize('how', ['deepcopy', 'pickle'])
def test_copies_compute_the_same(how, build, make_batch):
    model = build(augments=[MASKMIX, *STOCK])
    images, samples, _ = make_batch(3)
    model.loss(images, samples)
    other = copy.deepcopy(model) if how == 'deepcopy' else pickle.loads(pickle.dumps(model))
    losses = []
    for each in (model, other):
        np.random.seed(1)
        torch.manual_seed(1)
        losses.append(each.loss(images, samples)['loss'])
    assert torch.equal(*losses)
    other.backbone.layers[-1].attn.qkv.weight.data.zero_()
    assert model.backbone.layers[-1].attn.qkv.weight.abs().sum() > 0


def test_nothing_but_the_network_is_saved(build, classifier_cfg):
    for type in ('PALClassifier', 'MixClassifier'):
        names = {name.split('.')[0] for name in build(type=type, augments=[MASKMIX]).state_dict()}
        assert names == {'backbone', 'head'}


@pytest.mark.parametrize('type', ['PALClassifier', 'MixClassifier'])
def test_a_batch_of_one(type, build, make_batch):
    """Nothing to mix with: the label stays as it is."""
    model = build(type=type, augments=[MASKMIX])
    images, samples, scores = make_batch(1)
    loss = model.loss(images, samples)['loss']
    logits = model.head(model.backbone(images))
    torch.testing.assert_close(loss, model.head.loss_module(logits, scores))


def test_any_head_of_one_target(classifier_cfg, make_batch):
    images, samples, _ = make_batch(4)
    for head in (
        dict(type='LinearClsHead', num_classes=7, in_channels=32),
        dict(type='StackedLinearClsHead', num_classes=7, in_channels=32, mid_channels=[16]),
        dict(type='VisionTransformerClsHead', num_classes=7, in_channels=32, hidden_dim=16),
    ):
        model = MODELS.build(classifier_cfg(augments=[MASKMIX], head=head))
        model.loss(images, samples)['loss'].backward()
        assert model.data_preprocessor.num_classes == 7


def test_area_labels_serve_any_backbone(classifier_cfg, make_batch):
    resnet = dict(type='ResNet', depth=18, num_stages=4)
    cfg = classifier_cfg(
        type='MixClassifier',
        backbone=resnet,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=7, in_channels=512),
        augments=[dict(type='MixProBatchAugment', mask_size=24)],
    )
    images, samples, _ = make_batch(2)
    assert torch.isfinite(MODELS.build(cfg).loss(images, samples)['loss'])


def test_parts_that_are_built_already(classifier_cfg, make_batch):
    """As ImageClassifier takes them."""
    cfg = classifier_cfg(augments=[MASKMIX])
    for part in ('backbone', 'head'):
        cfg[part] = MODELS.build(cfg[part])
    images, samples, _ = make_batch(2)
    assert torch.isfinite(MODELS.build(cfg).loss(images, samples)['loss'])
