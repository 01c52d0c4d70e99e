# Copyright (c) MMMixPro contributors.
"""A recipe that changes at an epoch, in our classifiers, also when a run is taken up again."""

import pytest
import torch

from mmmixpro.mixing import MixProBatchAugment


def switching(tiny, name, augments):
    """A config that switches to other augments at the second epoch; dicts in lists need a file."""
    hook = dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=2, batch_augments=augments)])
    config = tiny.folder / f'{name}.py'
    config.write_text(f"_base_ = ['{tiny.config}']\ndefault_hooks = dict(switch={hook!r})\n")
    return config


@pytest.fixture(scope='module')
def whole(tiny):
    tiny.tool('train.py', switching(tiny, 'unmixed', None), '--work-dir', 'whole')
    return tiny.checkpoint('whole/rank0.pt')


def test_mixing_ends_with_the_first_epoch(tiny, whole):
    tiny.tool('train.py', tiny.config, '--work-dir', 'mixed')
    always = tiny.checkpoint('mixed/rank0.pt')
    assert 0 < len(whole['masks']) <= 8 < len(always['masks'])
    first, same = (tiny.weights(f'{run}/epoch_1.pth') for run in ('whole', 'mixed'))
    assert all(torch.equal(weight, same[name]) for name, weight in first.items())
    last, other = (tiny.weights(f'{run}/epoch_3.pth') for run in ('whole', 'mixed'))
    assert not all(torch.equal(weight, other[name]) for name, weight in last.items())


def test_resumed_run_takes_up_the_recipe(tiny, whole):
    checkpoint = tiny.folder / 'whole/epoch_2.pth'
    tiny.tool('train.py', tiny.folder / 'unmixed.py', '--work-dir', 'resumed', '--resume', checkpoint)
    assert tiny.checkpoint('resumed/rank0.pt')['masks'] == []
    resumed = tiny.weights('resumed/epoch_3.pth')
    for name, weight in tiny.weights('whole/epoch_3.pth').items():
        assert torch.equal(weight, resumed[name]), name


def test_augment_that_does_not_fit_is_refused_before_training(tiny):
    config = switching(tiny, 'stride', dict(augments=[dict(type='MixProBatchAugment', mask_size=12)]))
    with pytest.raises(ValueError, match='mask_size=12 is not a multiple'):
        tiny.tool('train.py', config, '--work-dir', 'stride')
    assert not list((tiny.folder / 'stride').glob('*.pth'))


def test_epoch_that_never_comes_is_refused_before_training(tiny):
    hook = dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=4, batch_augments=None)])
    config = tiny.folder / 'late.py'
    config.write_text(f"_base_ = ['{tiny.config}']\ndefault_hooks = dict(switch={hook!r})\n")
    with pytest.raises(ValueError, match=r'epochs \[4\] begin, and this run ends at 3'):
        tiny.tool('train.py', config, '--work-dir', 'late')
    config.write_text(f"_base_ = ['{tiny.iterations}']\ndefault_hooks = dict(switch={hook!r})\n")
    with pytest.raises(ValueError, match='this run counts iterations'):
        tiny.tool('train.py', config, '--work-dir', 'late')


STOCK = """
model = dict(_delete_=True, type='ImageClassifier', backbone={{_base_.model.backbone}}, head={{_base_.model.head}})
custom_hooks = []
data_preprocessor = dict(num_classes=2)
"""


def test_stock_classifier_begins_to_mix(tiny, monkeypatch):
    """mmpretrain's classifier mixes nothing without one-hot labels, which it has not from an unmixed start."""
    calls = []
    mix = MixProBatchAugment.__call__
    monkeypatch.setattr(MixProBatchAugment, '__call__', lambda *args: calls.append(1) or mix(*args))
    config = switching(tiny, 'stock', dict(augments=[dict(type='MixProBatchAugment', mask_size=8)]))
    config.write_text(config.read_text() + STOCK)
    tiny.tool('train.py', config, '--work-dir', 'stock')
    assert len(calls) == 16


def test_mixer_that_a_stock_classifier_cannot_have(tiny):
    config = switching(tiny, 'stock_smmix', dict(augments=[dict(type='SMMix')]))
    config.write_text(config.read_text() + STOCK)
    with pytest.raises(ValueError, match="model.type='SMMixClassifier'"):
        tiny.tool('train.py', config, '--work-dir', 'stock_smmix')
