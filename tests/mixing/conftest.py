# Copyright (c) MMMixPro contributors.
import numpy as np
import pytest
import torch
from oracles import mixing as oracle


@pytest.fixture
def check_plan():
    """A plan does to images and labels, all of them different, what an oracle's pixel masks do."""

    def check_plan(plan, images, masks):
        num, before, partner = len(images), images.clone(), plan.partner.numpy()
        assert sorted(partner) == list(range(num))
        np.testing.assert_array_equal(plan.pixel_mask().expand(num, -1, -1).numpy(), masks)
        mixed = plan.mix_images(images)
        assert torch.equal(images, before)
        assert mixed.dtype == images.dtype
        expected = oracle.mix_images(images.float().numpy(), partner, masks)
        np.testing.assert_allclose(mixed.float(), expected, rtol=0, atol=1e-6)

        assert plan.lam.dtype == torch.float32
        labels = plan.mix_scores(torch.eye(num), plan.lam, 1 - plan.lam)
        shares = [oracle.lambda_area(mask) for mask in masks]
        own = np.eye(num)
        expected = [oracle.mix_labels(own[i], own[partner[i]], share, 1 - share) for i, share in enumerate(shares)]
        np.testing.assert_allclose(labels, expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(labels.sum(1), 1, rtol=0, atol=1e-6)

    return check_plan


@pytest.fixture
def reseed():
    def reseed(seed):
        np.random.seed(seed)
        torch.manual_seed(seed)

    return reseed


@pytest.fixture
def fixed_lam(monkeypatch):
    """What Beta(alpha, alpha) gives from now on."""

    def fixed_lam(lam):
        monkeypatch.setattr(np.random, 'beta', lambda a, b, size: np.full(size, lam))

    return fixed_lam
