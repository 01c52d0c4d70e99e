# Copyright (c) MMMixPro contributors.
"""The progressive factors of Table 10."""

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmpretrain.registry import MODELS
from oracles import labels as oracle
from oracles import mixing

from mmmixpro.labels import AttentionLabels, LearnableAttentionLabels, ScheduledAttentionLabels
from mmmixpro.structures import MixPlan

NUM, NUM_CLASSES = 4, 5


@pytest.fixture
def case():
    plan = MixPlan(torch.tensor([2, 0, 3, 3]), torch.rand(NUM, 2, 3) < 0.5, 32, (48, 80))
    attention = torch.rand(NUM, 3, 5) ** 3
    attention /= attention.sum((1, 2), keepdim=True)
    return plan, attention, 2 * torch.randn(NUM, NUM_CLASSES), torch.eye(NUM_CLASSES)[[1, 0, 4, 2]]


@pytest.fixture
def at(monkeypatch):
    """Makes a runner's progress known, as its hooks do."""
    monkeypatch.setattr(MessageHub, '_instance_dict', type(MessageHub._instance_dict)())

    def at(iteration, max_iters):
        hub = MessageHub.get_instance('factors')
        hub.update_info('iter', iteration)
        hub.update_info('max_iters', max_iters)

    return at


def expected(alpha, plan, attention, nearest=False):
    masks = [mixing.expand_mask(mask.numpy(), plan.cell, *plan.size) for mask in plan.mask]
    maps = attention.double().numpy()
    return [oracle.lambda_with_factor(a, m, alpha, nearest) for a, m in zip(maps, masks, strict=True)]


@pytest.mark.parametrize('nearest', [False, True])
@pytest.mark.parametrize(('power', 'alpha'), [(1.0, 0.3), (2.0, 0.09), (0.5, 0.3**0.5)])
def test_scheduled(power, alpha, nearest, case, at):
    at(30, 100)
    w_i, w_j = ScheduledAttentionLabels(power, nearest)(*case)
    np.testing.assert_allclose(w_i, expected(alpha, *case[:2], nearest), rtol=0, atol=1e-6)
    np.testing.assert_allclose(w_i + w_j, 1, rtol=0, atol=1e-6)
    assert w_i.dtype == torch.float32


def test_scheduled_goes_from_area_to_attention(case, at):
    policy = ScheduledAttentionLabels(2.0)
    at(0, 50)
    torch.testing.assert_close(policy(*case)[0], case[0].lam)
    at(50, 50)
    np.testing.assert_allclose(policy(*case)[0], expected(1.0, *case[:2]), rtol=0, atol=1e-6)


def test_scheduled_without_a_runner_says_so(case, at):
    with pytest.raises(RuntimeError, match='follows the iterations of a runner.*tools/train.py'):
        ScheduledAttentionLabels()(*case)


def test_equal_weight_is_half_of_each(case):
    w_i, _ = AttentionLabels(area_weight=0.5, nearest=False)(*case)
    np.testing.assert_allclose(w_i, expected(0.5, *case[:2]), rtol=0, atol=1e-6)


@pytest.mark.parametrize('value', [0.0, -1.0, 2.0])
def test_learnable(value, case):
    policy = LearnableAttentionLabels()
    policy.factor.data.fill_(value)
    w_i, w_j = policy(*case)
    alpha = 1 / (1 + np.exp(-value))
    np.testing.assert_allclose(w_i.detach(), expected(alpha, *case[:2]), rtol=0, atol=1e-6)
    (w_i @ torch.arange(1.0, 1 + NUM)).backward()
    # d lam / d factor = alpha (1 - alpha) (lam_attn - lam_area).
    lean = np.array(expected(1.0, *case[:2])) - case[0].lam.numpy()
    gradient = alpha * (1 - alpha) * (lean * np.arange(1, 1 + NUM)).sum()
    np.testing.assert_allclose(policy.factor.grad, gradient, rtol=1e-4)


def test_learnable_learns_in_a_classifier(classifier_cfg, make_batch, redraw):
    """It moves in a step that mixes, and has a gradient, zero, in one that does not."""
    augments = [dict(type='MixProBatchAugment', mask_size=32), dict(type='Mixup', alpha=0.8)]
    labels = dict(type='LearnableAttentionLabels')
    model = redraw(MODELS.build(classifier_cfg(augments=augments, labels=labels)))
    images, samples, _ = make_batch(4)
    for probs, moves in (([1.0, 0.0, 0.0], True), ([0.0, 1.0, 0.0], False)):
        model.augment.probs = probs
        model.zero_grad()
        model.loss(images, samples)['loss'].backward()
        assert all(p.grad is not None for p in model.parameters())
        assert (model.labels.factor.grad != 0) == moves


@pytest.mark.parametrize('power', [0.0, -1.0])
def test_power_out_of_range(power):
    with pytest.raises(ValueError, match='power'):
        ScheduledAttentionLabels(power)
