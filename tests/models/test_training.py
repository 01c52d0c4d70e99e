# Copyright (c) MMMixPro contributors.

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmpretrain.structures import DataSample
from torch.nn import functional as F

from mmmixpro.attention import class_attention
from mmmixpro.structures import MixPlan

MASKMIX = dict(type='MixProBatchAugment', mask_size=32)
STOCK = [dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]


def fix_plan(model, plan):
    """Make the first mixer of a classifier return this plan."""
    model.augment.augments[0].draw = lambda *_: plan


def some_plan(num, size=(64, 64), cell=32):
    grid = [-(-side // cell) for side in size]
    mask = torch.rand(num, *grid) < 0.5
    mask[:, 0, 0], mask[:, -1, -1] = True, False
    return MixPlan(torch.arange(num).roll(1), mask, cell, size)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def explicit_loss(model, images, scores, plan, detach):
    """MixPro's loss spelt out with ordinary tensor operations, for its gradient."""
    mask = torch.nn.functional.interpolate(plan.mask[:, None].float(), scale_factor=plan.cell)
    mixed = mask * images + (1 - mask) * images[plan.partner]
    with class_attention(model.backbone, (64, 64)) as tap:
        logits = model.head(model.backbone(mixed))
    area = mask.mean((1, 2, 3))
    attn = (F.avg_pool2d(mask, 16)[:, 0] * tap.map).sum((1, 2))
    partner = scores[plan.partner]
    target = area[:, None] * scores + (1 - area)[:, None] * partner
    probs = logits.softmax(1)
    alpha = (probs * target).sum(1) / (probs.norm(dim=1) * target.norm(dim=1))
    if detach:
        alpha = alpha.detach()
    lam = (alpha * attn + (1 - alpha) * area)[:, None]
    smoothed = 0.9 * (lam * scores + (1 - lam) * partner) + 0.1 / 7
    return -(smoothed * logits.log_softmax(1)).sum(1).mean()


@pytest.mark.parametrize('detach', [True, False])
def test_gradient_is_that_of_an_explicit_loss(detach, build, make_batch):
    labels = dict(type='ProgressiveAttentionLabels', detach_confidence=detach)
    model = build(augments=[MASKMIX], labels=labels).double()
    images, samples, scores = make_batch(4, dtype=torch.float64)
    plan = some_plan(4)
    fix_plan(model, plan)

    found = []
    for loss in (
        lambda: model.loss(images, samples)['loss'],
        lambda: explicit_loss(model, images, scores.double(), plan, detach),
        lambda: explicit_loss(model, images, scores.double(), plan, not detach),
    ):
        model.zero_grad()
        loss().backward()
        found.append(gradients(model))
    ours, expected, other = found
    assert ours.keys() == dict(model.named_parameters()).keys()
    for name, grad in ours.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6)
    assert any((grad - other[name]).abs().max() > 1e-4 for name, grad in ours.items())


def test_two_halves_accumulate_to_the_whole(build, make_batch):
    """Partners stay within each half, so that both see the same mixed images."""
    model = build(augments=[MASKMIX])
    images, samples, _ = make_batch(6)
    halves = [some_plan(3) for _ in range(2)]
    whole = MixPlan(
        torch.cat([halves[0].partner, halves[1].partner + 3]),
        torch.cat([half.mask for half in halves]),
        32,
        (64, 64),
    )
    fix_plan(model, whole)
    model.loss(images, samples)['loss'].backward()
    expected = gradients(model)

    model.zero_grad()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0), accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 2)
    for i, half in enumerate(halves):
        fix_plan(model, half)
        part = slice(3 * i, 3 * i + 3)
        loss = model.loss(images[part], samples[part])['loss']
        wrapper.backward(wrapper.scale_loss(loss))
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6)


def check_train_step(model, wrapper, make_batch):
    images, _, _ = make_batch(3)
    samples = [DataSample().set_gt_label(i) for i in range(3)]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    logs = model.train_step(dict(inputs=images, data_samples=samples), wrapper)
    assert set(logs) == {'loss'}
    assert torch.isfinite(logs['loss'])
    for name, p in model.named_parameters():
        assert torch.isfinite(p).all()
        # A bias that shifts all logits of a query alike is not seen by softmax.
        unseen = name.endswith(('attn.k.bias', 'attn.mix_logits.bias'))
        assert unseen or not torch.equal(p, before[name]), name


@pytest.mark.parametrize('family', ['vit', 'pvt', 'cait', 'ca_swin', 'xcit'])
@pytest.mark.parametrize('augment', [MASKMIX, dict(type='TransMixBatchAugment'), *STOCK])
def test_train_step(augment, family, build, backbone_cfg, make_batch):
    model = build(augments=[augment], backbone=backbone_cfg(family))
    check_train_step(model, OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)), make_batch)


def test_train_step_under_mmengines_amp(build, make_batch, monkeypatch):
    # The wrapper asks for a GPU at construction only; its autocast is the device's own.
    monkeypatch.setattr('mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)
    model = build(augments=[MASKMIX])
    seen = {}
    model.head.register_forward_hook(lambda _, args, out: seen.update(logits=out.dtype))
    model.head.loss_module.register_forward_pre_hook(lambda _, args: seen.update(target=args[1].dtype))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    check_train_step(model, AmpOptimWrapper(dtype='bfloat16', loss_scale=1.0, optimizer=optimizer), make_batch)
    assert seen == dict(logits=torch.bfloat16, target=torch.float32)


@pytest.mark.parametrize('family', ['vit', 'pvt', 'cait', 'ca_swin', 'xcit'])
def test_loss_falls_and_confidence_grows(family, build, backbone_cfg, make_batch):
    """50 steps on one batch and one plan; alpha, by which attention has a say (Eq. 8), grows."""
    model = build(augments=[MASKMIX], backbone=backbone_cfg(family))
    model.init_weights()
    images, samples, scores = make_batch(8)
    plan = some_plan(8)
    fix_plan(model, plan)
    alphas, losses = [], []

    def note_alpha(_, args):
        plan, _, logits, scores = args
        area = plan.mix_scores(scores, plan.lam, 1 - plan.lam)
        alphas.append(F.cosine_similarity(logits.softmax(1), area).mean().item())

    model.labels.register_forward_pre_hook(note_alpha)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(50):
        optimizer.zero_grad()
        loss = model.loss(images, samples)['loss']
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    first, last = ([sum(values[part]) / 10 for values in (losses, alphas)] for part in (slice(10), slice(-10, None)))
    print(f'{family}: loss {first[0]:.3f} -> {last[0]:.3f}, alpha {first[1]:.3f} -> {last[1]:.3f}')
    assert last[0] < first[0] - 0.2
    assert last[1] > first[1] + 0.05
