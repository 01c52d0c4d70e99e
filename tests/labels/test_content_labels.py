# Copyright (c) MMMixPro contributors.
import numpy as np
import pytest
import torch
from oracles import mixing
from oracles import tokenmix as oracle

from mmmixpro.labels import ContentLabels
from mmmixpro.mixing import TokenMix, TokenMixPlan
from mmmixpro.structures import MixPlan


def weigh(plan):
    return ContentLabels()(plan, None, None, None)


@pytest.mark.parametrize(
    ('cell', 'size', 'content_size'),
    [(16, (96, 96), (6, 6)), (16, (96, 128), (7, 7)), (16, (84, 132), (3, 5)), (8, (40, 72), (14, 14))],
)
def test_weights_are_the_oracles(cell, size, content_size):
    num = 4
    grid = [-(-side // cell) for side in size]
    mask = torch.rand(num, *grid) < 0.5
    content = (torch.randn(num, *content_size) * 3).clamp(min=0)
    content[2] = 0
    plan = TokenMixPlan(torch.tensor([2, 3, 0, 1]), mask, cell, size, content=content)
    before = content.clone()
    w_i, w_j = weigh(plan)
    assert torch.equal(content, before)
    assert w_i.dtype == w_j.dtype == torch.float32
    for i, j in enumerate([2, 3, 0, 1]):
        pixels = mixing.expand_mask(mask[i].tolist(), cell, *size)
        expected = oracle.weights(content[i].double().numpy(), content[j].double().numpy(), pixels)
        np.testing.assert_allclose([w_i[i], w_j[i]], expected, rtol=0, atol=1e-6)


def plan_of(content, partner, mask):
    return TokenMixPlan(torch.tensor(partner), torch.tensor([mask]), 8, (16, 16), content=torch.tensor(content))


def test_both_objects_in_sight_or_neither():
    """The weights are independent: 2 in all where both objects show, 0 where each is covered by the other's ground."""
    content = [[[5.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.2]]]
    w_i, w_j = weigh(plan_of(content, [1, 0], [[True, True], [False, False]]))
    torch.testing.assert_close((w_i, w_j), (torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])))
    w_i, w_j = weigh(plan_of(content, [1, 0], [[False, False], [True, True]]))
    torch.testing.assert_close((w_i, w_j), (torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])))


def test_scale_of_content_does_not_matter():
    content = torch.rand(3, 4, 4)
    mask = torch.rand(1, 4, 4) < 0.5
    plans = [TokenMixPlan(torch.tensor([1, 2, 0]), mask, 8, (32, 32), content=scale * content) for scale in (1, 1e-3)]
    torch.testing.assert_close(weigh(plans[0]), weigh(plans[1]))


def test_without_any_content_area_counts():
    mask = torch.rand(1, 3, 5) < 0.5
    plan = TokenMixPlan(torch.tensor([1, 0]), mask, 16, (40, 72), content=torch.zeros(2, 7, 7))
    w_i, w_j = weigh(plan)
    torch.testing.assert_close((w_i, w_j), (plan.lam, 1 - plan.lam))


def test_paired_with_itself():
    """A batch of one: whatever is covered, the image shows all of itself."""
    plan = TokenMixPlan(torch.tensor([0]), torch.rand(1, 4, 4) < 0.5, 8, (32, 32), content=torch.rand(1, 5, 3))
    w_i, w_j = weigh(plan)
    torch.testing.assert_close(w_i + w_j, torch.ones(1))


def test_label_mass_over_many_draws():
    """One label's worth on average, and between none and two."""
    mixer = TokenMix(mask_size=8)
    images, content = torch.zeros(8, 1, 64, 64), torch.rand(8, 4, 4) ** 6
    masses = []
    for _ in range(300):
        plan = mixer.draw(images)
        w_i, w_j = weigh(TokenMixPlan(plan.partner, plan.mask, 8, (64, 64), content=content))
        masses.append(w_i + w_j)
    masses = torch.cat(masses)
    assert masses.mean().item() == pytest.approx(1, abs=0.03)
    assert masses.std() > 0.1
    assert masses.min() >= 0 and masses.max() <= 2 + 1e-6


def test_plan_without_content():
    with pytest.raises(ValueError, match='expects a plan with content, as TokenMix draws it'):
        weigh(MixPlan(torch.tensor([0]), torch.ones(1, 2, 2, dtype=torch.bool), 8, (16, 16)))
    with pytest.raises(ValueError, match='expects a plan with content'):
        weigh(TokenMix(mask_size=8).draw(torch.zeros(2, 3, 64, 64)))
