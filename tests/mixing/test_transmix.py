# Copyright (c) MMMixPro contributors.
import numpy as np
import pytest
import torch
from mmpretrain.models.utils.batch_augments import CutMix
from mmpretrain.registry import BATCH_AUGMENTS

from mmmixpro.mixing import TransMixBatchAugment


@pytest.mark.parametrize(('num', 'size'), [(1, (32, 32)), (2, (48, 32)), (5, (31, 57))])
def test_box_and_labels_agree(num, size):
    """Image ``i`` is ``i`` everywhere: the box is one rectangle for all, its area the label."""
    mixer = TransMixBatchAugment()
    images = torch.arange(num).float()[:, None, None, None].expand(num, 3, *size).clone()
    before = images.clone()
    for _ in range(20):
        plan = mixer.draw(images)
        mixed = plan.mix_images(images)
        labels = plan.mix_scores(torch.eye(num), plan.lam, 1 - plan.lam)
        box = ~plan.pixel_mask()[0]
        rows, columns = box.any(1).nonzero(), box.any(0).nonzero()
        assert box.sum() == len(rows) * len(columns)
        if len(rows):
            assert len(rows) == rows.max() - rows.min() + 1
            assert len(columns) == columns.max() - columns.min() + 1
        for i in range(num):
            assert (mixed[i][:, ~box] == i).all()
            assert (mixed[i][:, box] == plan.partner[i]).all()
            shares = np.bincount(mixed[i, 0].flatten().int(), minlength=num) / mixed[i, 0].numel()
            np.testing.assert_allclose(labels[i], shares, rtol=0, atol=1e-7)
    assert torch.equal(images, before)


@pytest.mark.parametrize('alpha', [0.3, 1.0])
def test_same_boxes_as_cutmix(alpha):
    images, scores = torch.randn(4, 3, 40, 56), torch.eye(4)
    for seed in range(20):
        np.random.seed(seed)
        torch.manual_seed(seed)
        expected, expected_scores = CutMix(alpha)(images.clone(), scores)
        np.random.seed(seed)
        torch.manual_seed(seed)
        plan = TransMixBatchAugment(alpha).draw(images)
        assert torch.equal(plan.mix_images(images), expected)
        torch.testing.assert_close(plan.mix_scores(scores, plan.lam, 1 - plan.lam), expected_scores)


@pytest.mark.parametrize('prob', [0, 0.5, 1])
def test_prob_is_honoured(prob):
    mixer = TransMixBatchAugment(prob=prob)
    images = torch.zeros(2, 1, 8, 8)
    mixed = sum(mixer.plan(images) is not None for _ in range(1000))
    assert abs(mixed - 1000 * prob) <= (80 if prob == 0.5 else 0)


@pytest.mark.parametrize(('kwargs', 'named'), [(dict(alpha=0), 'alpha'), (dict(prob=2), 'prob')])
def test_arguments_out_of_range_are_named(kwargs, named):
    with pytest.raises(ValueError, match=named):
        TransMixBatchAugment(**kwargs)


def test_unknown_argument_is_named():
    with pytest.raises(TypeError, match='mask_size'):
        BATCH_AUGMENTS.build(dict(type='TransMixBatchAugment', mask_size=32))


def test_any_token_stride_fits():
    TransMixBatchAugment().check_token_stride(7)
