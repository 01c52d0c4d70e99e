# Copyright (c) MMMixPro contributors.
"""Whole batches of labels come out as mmpretrain's one by one."""

import numpy as np
import pytest
import torch
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample

from mmmixpro.models import MixDataPreprocessor

SETTINGS = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0], to_rgb=True, num_classes=7)


def both(samples, training=True, images=None, **kwargs):
    """What mmpretrain's preprocessor and ours make of the same batch."""
    images = torch.randint(0, 256, (len(samples()), 3, 20, 24), dtype=torch.uint8) if images is None else images
    stock = ClsDataPreprocessor(to_onehot=True, **SETTINGS)
    ours = MixDataPreprocessor(to_onehot=True, **SETTINGS, **kwargs)
    return (each(dict(inputs=images, data_samples=samples()), training) for each in (stock, ours))


SAMPLES = dict(
    labels=lambda: [DataSample().set_gt_label(label) for label in (3, 0, 6, 3, 1)],
    one=lambda: [DataSample().set_gt_label(5)],
    scores=lambda: [DataSample().set_gt_score(score) for score in torch.eye(7).flip(0)[:4] / 2],
    as_many_as_images=lambda: [DataSample().set_gt_label(labels) for labels in ([0, 3], [5], [])],
    several=lambda: [DataSample().set_gt_label(labels) for labels in ([0, 3], [6], [1, 2, 5])],
)


@pytest.mark.parametrize('name', SAMPLES)
def test_equals_mmpretrains_in_training(name):
    stock, ours = both(SAMPLES[name])
    assert torch.equal(ours['inputs'], stock['inputs'])
    expected = torch.stack([sample.gt_score for sample in stock['data_samples']])
    assert ours['data_samples'].dtype == torch.float32
    assert torch.equal(ours['data_samples'], expected.float())


def test_images_of_several_sizes_are_padded():
    images = [torch.randint(0, 256, (3, 20, side), dtype=torch.uint8) for side in (16, 24)]
    stock, ours = both(lambda: SAMPLES['labels']()[:2], images=images)
    assert torch.equal(ours['inputs'], stock['inputs'])


def test_evaluation_is_mmpretrains():
    stock, ours = both(SAMPLES['labels'], training=False)
    assert torch.equal(ours['inputs'], stock['inputs'])
    for own, other in zip(ours['data_samples'], stock['data_samples'], strict=True):
        assert torch.equal(own.gt_label, other.gt_label)
        assert torch.equal(own.gt_score, other.gt_score)


def test_channels_last_is_a_layout_only():
    stock, ours = both(SAMPLES['labels'], channels_last=True)
    assert torch.equal(ours['inputs'], stock['inputs'])
    assert ours['inputs'].is_contiguous(memory_format=torch.channels_last)


def test_leaves_the_samples_alone():
    samples = SAMPLES['labels']()
    batch = dict(inputs=torch.zeros(5, 3, 8, 8), data_samples=samples)
    first = MixDataPreprocessor(num_classes=7)(batch, training=True)['data_samples']
    assert not any('gt_score' in sample for sample in samples)
    assert torch.equal(MixDataPreprocessor(num_classes=7)(batch, training=True)['data_samples'], first)


def test_without_labels():
    assert MixDataPreprocessor(num_classes=7)(dict(inputs=torch.zeros(2, 3, 8, 8)), True)['data_samples'] is None


def test_number_of_classes_is_needed():
    with pytest.raises(ValueError, match='data_preprocessor.num_classes'):
        MixDataPreprocessor()(dict(inputs=torch.zeros(5, 3, 8, 8), data_samples=SAMPLES['labels']()), training=True)


def test_is_the_default_of_our_classifiers_and_may_be_replaced(build):
    model = build()
    assert type(model.data_preprocessor) is MixDataPreprocessor
    assert model.data_preprocessor.num_classes == 7
    stock = build(data_preprocessor=dict(type='ClsDataPreprocessor'))
    assert type(stock.data_preprocessor) is ClsDataPreprocessor


@pytest.mark.parametrize('kind', ['PALClassifier', 'MixClassifier'])
def test_same_loss_with_either(kind, build):
    augments = [dict(type='MixProBatchAugment', mask_size=32), dict(type='Mixup', alpha=0.8)]
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    losses = []
    for preprocessor in ('ClsDataPreprocessor', 'MixDataPreprocessor'):
        torch.manual_seed(1)
        model = build(type=kind, augments=augments, data_preprocessor=dict(type=preprocessor, **SETTINGS))
        torch.manual_seed(2)
        np.random.seed(2)
        data = model.data_preprocessor(dict(inputs=images, data_samples=SAMPLES['labels']()), True)
        losses.append(model.loss(**data)['loss'])
    assert torch.equal(*losses)
