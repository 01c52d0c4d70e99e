# Copyright (c) MMMixPro contributors.
import random

import pytest
import torch

from mmmixpro.engine import EpochSeedHook


def same(weights, others):
    assert weights.keys() == others.keys()
    return all(torch.equal(weight, others[name]) for name, weight in weights.items())


def test_killed_run_resumes_to_the_same_weights(tiny):
    tiny.run('--work-dir', 'whole')
    # In the middle of the second epoch, wherever: the seed fixture must not fix it.
    iteration = 8 + random.SystemRandom().randrange(7)
    tiny.kill_at(iteration, 'killed')
    assert not (tiny.folder / 'killed' / 'epoch_2.pth').exists()

    output = tiny.run('--work-dir', 'killed', '--resume')

    assert 'resumed epoch: 1, iter: 8' in output
    whole = tiny.weights('whole/epoch_3.pth')
    assert same(whole, tiny.weights('killed/epoch_3.pth')), iteration
    assert not same(whole, tiny.weights('whole/epoch_1.pth'))


@pytest.mark.parametrize(
    ('config', 'last', 'stop', 'options'),
    [
        ('tiny', 'epoch_3.pth', 17, ['train_dataloader.num_workers=0']),
        # Checkpoints after 4, 8 and 12 iterations; validation, which draws too, between or right after them.
        ('iterations', 'iter_12.pth', 6, ['train_dataloader.num_workers=0', 'train_cfg.val_interval=3']),
        ('iterations', 'iter_12.pth', 6, ['train_dataloader.num_workers=2', 'train_cfg.val_interval=4']),
    ],
)
def test_interrupted_run_resumes_to_the_same_weights(tiny, config, last, stop, options, tmp_path, monkeypatch):
    config = tiny.config.with_stem(config)
    whole = ['train.py', config, '--work-dir', tmp_path / 'whole', '--cfg-options', *options]
    stopped = ['train.py', config, '--work-dir', tmp_path / 'stopped', '--cfg-options', *options]
    tiny.tool(*whole)
    monkeypatch.setenv('STOP_AT', str(stop))
    with pytest.raises(KeyboardInterrupt):
        tiny.tool(*stopped)
    monkeypatch.delenv('STOP_AT')
    assert (tmp_path / 'stopped' / 'last_checkpoint').exists()

    tiny.tool(*stopped, '--resume')

    assert same(tiny.weights(tmp_path / 'whole' / last), tiny.weights(tmp_path / 'stopped' / last))


def test_it_takes_the_hook(tiny, tmp_path, monkeypatch):
    """Without it the weights differ, or the tests above could not fail."""
    monkeypatch.setattr(EpochSeedHook, '_seed', lambda *args: None)
    tiny.tool('train.py', tiny.config, '--work-dir', tmp_path / 'whole')
    monkeypatch.setenv('STOP_AT', '17')
    with pytest.raises(KeyboardInterrupt):
        tiny.tool('train.py', tiny.config, '--work-dir', tmp_path / 'stopped')
    monkeypatch.delenv('STOP_AT')
    tiny.tool('train.py', tiny.config, '--work-dir', tmp_path / 'stopped', '--resume')

    whole = tiny.weights(tmp_path / 'whole' / 'epoch_3.pth')
    assert not same(whole, tiny.weights(tmp_path / 'stopped' / 'epoch_3.pth'))
