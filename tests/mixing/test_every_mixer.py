# Copyright (c) MMMixPro contributors.
"""What holds for all mixers alike, for those that come later too."""

import pytest
import torch
from mmpretrain.registry import BATCH_AUGMENTS

import mmmixpro.mixing
from mmmixpro.mixing import BatchMixer, CellMixer

MIXERS = sorted(
    name
    for name in mmmixpro.mixing.__all__
    if isinstance(getattr(mmmixpro.mixing, name), type)
    and issubclass(getattr(mmmixpro.mixing, name), BatchMixer)
    and getattr(mmmixpro.mixing, name) not in (BatchMixer, CellMixer)
)
NEEDED = dict(AttentiveCutMix=dict(teacher=dict(type='ResNet')))


@pytest.mark.parametrize('name', MIXERS)
@pytest.mark.parametrize('prob', [0, 0.25, 0.5, 1])
def test_share_of_batches_that_are_mixed(name, prob, monkeypatch):
    mixer = BATCH_AUGMENTS.build(dict(type=name, prob=prob, **NEEDED.get(name, {})))
    monkeypatch.setattr(mixer, 'draw', lambda *_: 'a plan')
    images = torch.zeros(2, 1, 8, 8)
    mixed = sum(mixer.plan(images) == 'a plan' for _ in range(10_000))
    # Five standard deviations of a binomial; none at all where there is nothing to draw.
    assert abs(mixed - 10_000 * prob) <= 5 * (10_000 * prob * (1 - prob)) ** 0.5


@pytest.mark.parametrize('name', MIXERS)
@pytest.mark.parametrize('prob', [-0.1, 1.1])
def test_prob_out_of_range(name, prob):
    with pytest.raises(ValueError, match='prob'):
        BATCH_AUGMENTS.build(dict(type=name, prob=prob, **NEEDED.get(name, {})))


def test_every_mixer_is_registered():
    assert MIXERS
    assert all(BATCH_AUGMENTS.get(name) is getattr(mmmixpro.mixing, name) for name in MIXERS)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    'name',
    [
        'CutMixBatchAugment',
        'GridMix',
        'MixProBatchAugment',
        'MixupBatchAugment',
        'SaliencyMix',
        'ShuffledMaskMix',
        'TokenMix',
        'TransMixBatchAugment',
    ],
)
def test_mixed_images_keep_their_layout(name, layout):
    images = torch.randn(3, 3, 128, 128).contiguous(memory_format=layout)
    plan = BATCH_AUGMENTS.build(dict(type=name)).draw(images)
    assert plan.mix_images(images).is_contiguous(memory_format=layout)


@pytest.mark.parametrize('alpha', [0, -1, float('nan'), '1'])
@pytest.mark.parametrize('name', ['CutMixBatchAugment', 'GridMix', 'MixupBatchAugment', 'PuzzleMix', 'SaliencyMix'])
def test_alpha_out_of_range(name, alpha):
    with pytest.raises(ValueError, match='alpha'):
        BATCH_AUGMENTS.build(dict(type=name, alpha=alpha))
