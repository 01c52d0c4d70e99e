# Copyright (c) MMMixPro contributors.
import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from oracles import labels as oracle
from oracles import mixing

from mmmixpro.labels import AreaLabels, AttentionLabels, ProgressiveAttentionLabels
from mmmixpro.structures import MixPlan

NUM, NUM_CLASSES = 4, 5
# Cell and tokens on 48 x 80 px: whole tokens in each cell, tokens cut by cells, boxes.
GEOMETRIES = [(32, (3, 5)), (32, (2, 3)), (20, (3, 5)), (1, (3, 5))]


def random_case(cell=32, tokens=(3, 5), lam=None):
    grid = [-(-side // cell) for side in (48, 80)]
    plan = MixPlan(torch.tensor([2, 0, 3, 3]), torch.rand(NUM, *grid) < 0.5, cell, (48, 80), lam)
    attention = torch.rand(NUM, *tokens) ** 3
    attention /= attention.sum((1, 2), keepdim=True)
    return plan, attention, 2 * torch.randn(NUM, NUM_CLASSES), torch.eye(NUM_CLASSES)[[1, 0, 4, 2]]


def weights_of(lam, plan, attention, logits, scores, **kwargs):
    """Weight of each image's own label, by the equations."""
    case = [x.double().numpy() for x in (attention, logits, scores)]
    out = []
    for i in range(NUM):
        mask = mixing.expand_mask(plan.mask[i].numpy(), plan.cell, *plan.size)
        attention_i, logits_i = case[0][i], case[1][i]
        labels = case[2][i], case[2][plan.partner[i]]
        out.append(lam(attention_i, mask, logits_i, *labels, **kwargs))
    return np.array(out)


def check(policy, case, expected):
    w_i, w_j = policy(*case)
    assert w_i.shape == w_j.shape == (NUM,)
    assert w_i.dtype == w_j.dtype == torch.float32
    np.testing.assert_allclose(w_i.detach(), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose((w_i + w_j).detach(), 1, rtol=0, atol=1e-6)
    assert 0 <= w_i.min() <= w_i.max() <= 1 + 1e-6


@pytest.mark.parametrize(('cell', 'tokens'), GEOMETRIES)
def test_area(cell, tokens):
    plan, _, logits, scores = random_case(cell, tokens)
    expected = [mixing.lambda_area(mixing.expand_mask(m, cell, *plan.size)) for m in plan.mask.numpy()]
    check(AreaLabels(), (plan, None, logits, scores), expected)


@pytest.mark.parametrize('nearest', [False, True])
@pytest.mark.parametrize('area_weight', [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(('cell', 'tokens'), GEOMETRIES)
def test_transmix(cell, tokens, area_weight, nearest):
    case = random_case(cell, tokens)
    expected = weights_of(lambda a, m, *_: oracle.lambda_transmix(a, m, area_weight, nearest), *case)
    check(AttentionLabels(area_weight, nearest), case, expected)


def test_transmix_defaults_are_its_own():
    case = random_case(20, (2, 3))
    check(AttentionLabels(), case, weights_of(lambda a, m, *_: oracle.lambda_transmix(a, m), *case))


@pytest.mark.parametrize('nearest', [False, True])
@pytest.mark.parametrize('label_smooth', [0.0, 0.1])
@pytest.mark.parametrize(('cell', 'tokens'), GEOMETRIES)
def test_progressive(cell, tokens, label_smooth, nearest):
    case = random_case(cell, tokens)
    expected = weights_of(oracle.lambda_pal, *case, label_smooth=label_smooth, nearest=nearest)
    check(ProgressiveAttentionLabels(label_smooth_val=label_smooth, nearest=nearest), case, expected)


def test_progressive_with_cells_counted():
    lam = torch.tensor([0.25, 0.5, 0.0, 1.0])
    case = random_case(lam=lam)
    areas = iter(lam.tolist())
    expected = weights_of(lambda *args: oracle.lambda_pal(*args, area=next(areas)), *case)
    check(ProgressiveAttentionLabels(), case, expected)


def test_progressive_with_soft_labels():
    plan, attention, logits, _ = random_case()
    case = (plan, attention, logits, torch.rand(NUM, NUM_CLASSES).softmax(1))
    check(ProgressiveAttentionLabels(), case, weights_of(oracle.lambda_pal, *case))


def test_progressive_trusts_attention_as_far_as_the_model_fits():
    plan, attention, _, scores = random_case()
    target = plan.mix_scores(scores, plan.lam, 1 - plan.lam)
    lam_attn = weights_of(lambda a, m, *_: oracle.lambda_attention(a, m, False), plan, attention, target, scores)
    policy = ProgressiveAttentionLabels()

    sure = (target + 1e-12).log()
    np.testing.assert_allclose(policy(plan, attention, sure, scores)[0], lam_attn, atol=1e-5)
    wrong = torch.where(target > 0, -100.0, 0.0)
    np.testing.assert_allclose(policy(plan, attention, wrong, scores)[0], plan.lam, atol=1e-5)


def test_huge_logits_give_no_nan():
    plan, attention, logits, scores = random_case()
    w_i, _ = ProgressiveAttentionLabels()(plan, attention, 1e4 * logits, scores)
    assert torch.isfinite(w_i).all()


@pytest.mark.parametrize('detach', [True, False])
def test_gradient_through_confidence(detach):
    plan, attention, logits, scores = random_case()
    logits.requires_grad_()
    w_i, _ = ProgressiveAttentionLabels(detach_confidence=detach)(plan, attention, logits, scores)
    assert w_i.requires_grad is not detach


def test_nothing_is_written_into_the_arguments():
    case = random_case()
    tensors = [case[0].mask, case[0].lam, *case[1:]]
    before = [tensor.clone() for tensor in tensors]
    for policy in (AreaLabels(), AttentionLabels(), ProgressiveAttentionLabels(label_smooth_val=0.1)):
        policy(*case)
        assert not policy.state_dict()
    for tensor, was in zip(tensors, before, strict=True):
        assert torch.equal(tensor, was)


@pytest.mark.parametrize(
    ('policy', 'kwargs'),
    [
        (AttentionLabels, dict(area_weight=-0.1)),
        (AttentionLabels, dict(area_weight=1.1)),
        (ProgressiveAttentionLabels, dict(label_smooth_val=1.0)),
        (ProgressiveAttentionLabels, dict(label_smooth_val=-0.1)),
    ],
)
def test_arguments_out_of_range_are_named(policy, kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        policy(**kwargs)


@pytest.mark.parametrize('name', ['AreaLabels', 'AttentionLabels', 'ProgressiveAttentionLabels'])
def test_unknown_argument_is_named(name):
    with pytest.raises(TypeError, match=rf'{name}.*area_wait'):
        MODELS.build(dict(type=name, area_wait=0.5))
