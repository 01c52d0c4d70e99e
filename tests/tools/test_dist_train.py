# Copyright (c) MMMixPro contributors.
import json
import random

import pytest
import torch


@pytest.fixture(scope='module')
def output(tiny):
    """What a run of two ranks printed."""
    return tiny.run('--work-dir', 'whole', ranks=2)


def test_two_ranks_draw_different_masks_and_keep_equal_weights(tiny, output):
    first, second = (tiny.checkpoint(f'whole/rank{rank}.pt') for rank in (0, 1))
    assert first['world_size'] == second['world_size'] == 2
    assert len(first['masks']) > 3
    for mask in first['masks']:
        assert not any(torch.equal(mask, other) for other in second['masks'])
    for name, weight in first['weights'].items():
        assert torch.equal(weight, second['weights'][name]), name
    assert 'made for batches of 1024, this run has 8 (4 per rank x 2 ranks x 1' in output


def test_the_log_tells_of_all_ranks(tiny, output):
    """Of each line: how many of the two batches MaskMix mixed, and the mean area kept in these."""
    (log,) = tiny.folder.glob('whole/*/vis_data/scalars.json')
    lines = [line for line in map(json.loads, log.read_text().splitlines()) if 'loss' in line]
    mixed = [2 * line['mix/share_MixProBatchAugment'] for line in lines]
    areas = [[mask.float().mean() for mask in tiny.checkpoint(f'whole/rank{rank}.pt')['masks']] for rank in (0, 1)]
    assert len(lines) == 12
    assert sum(mixed) == len(areas[0]) + len(areas[1])
    kept = sum(num * line['mix/lam'] for num, line in zip(mixed, lines, strict=True) if num)
    assert kept == pytest.approx(sum(map(sum, areas)).item(), abs=1e-5)
    for num, line in zip(mixed, lines, strict=True):
        assert ('mix/alpha' in line) == bool(num)


def test_two_ranks_train_fast(tiny):
    """Compiled, in bfloat16, with deferred logs, over batches of two sizes, in training and evaluation."""
    options = [
        'default_hooks.compile.type=CompileHook', 'default_hooks.compile.backend=aot_eager',
        'default_hooks.runtime_info.type=DeferredRuntimeInfoHook', 'optim_wrapper.type=AsyncOptimWrapper',
        'optim_wrapper.dtype=bfloat16', 'optim_wrapper.constructor=MergedOptimWrapperConstructor',
        'optim_wrapper.optimizer.fused=True', 'optim_wrapper.clip_grad.max_norm=5.0',
        'data_preprocessor.channels_last=True', 'train_dataloader.batch_size=3', 'val_dataloader.batch_size=3',
    ]  # fmt: skip
    output = tiny.run('--work-dir', 'fast', '--cfg-options', *options, ranks=2)
    first, second = (tiny.checkpoint(f'fast/rank{rank}.pt') for rank in (0, 1))
    for name, weight in first['weights'].items():
        assert torch.isfinite(weight).all()
        assert torch.equal(weight, second['weights'][name]), name
    assert 'grad_norm: ' in output
    assert 'recompile_limit' not in output


SMMIX = """
_base_ = ['tiny.py']
model = dict(
    type='SMMixClassifier',
    train_cfg=dict(augments=[dict(type='SMMix'), dict(type='Mixup', alpha=0.8)], probs=[0.5, 0.5]))
"""
LEARNABLE = """
_base_ = ['tiny.py']
model = dict(labels=dict(type='LearnableAttentionLabels'), train_cfg=dict(probs=[0.5, 0.5]))
"""


@pytest.mark.parametrize(('config', 'own'), [(SMMIX, 'token_head.fc.weight'), (LEARNABLE, 'labels.factor')])
def test_two_ranks_whose_batches_differ_in_what_they_use(tiny, config, own):
    """Each rank draws SMMix or Mixup by itself; neither waits for a gradient that the other has not."""
    name = own.split('.')[0]
    (tiny.config.parent / f'{name}.py').write_text(config)
    run = tiny.config.parent / f'{name}.py'
    tiny.run('--work-dir', name, config=run, ranks=2)
    first, second = (tiny.checkpoint(f'{name}/rank{rank}.pt') for rank in (0, 1))
    assert 0 < len(first['masks']) < 12
    for key, weight in first['weights'].items():
        assert torch.isfinite(weight).all(), key
        assert torch.equal(weight, second['weights'][key]), key
    early = tiny.weights(f'{name}/epoch_1.pth')
    assert not torch.equal(early[own], first['weights'][own])


def test_killed_ranks_resume_to_the_same_weights(tiny, output):
    iteration = 4 + random.SystemRandom().randrange(3)
    tiny.kill_at(iteration, 'killed', ranks=2)
    assert not (tiny.folder / 'killed' / 'epoch_2.pth').exists()

    resumed = tiny.run('--work-dir', 'killed', '--resume', ranks=2)

    assert 'resumed epoch: 1, iter: 4' in resumed
    whole, killed = tiny.weights('whole/epoch_3.pth'), tiny.weights('killed/epoch_3.pth')
    for name, weight in whole.items():
        assert torch.equal(weight, killed[name]), (iteration, name)


def test_wrong_data_path_is_refused_on_every_rank(tiny):
    # The second rank alone: refused before it waits for the others.
    rank = dict(RANK='1', WORLD_SIZE='2', LOCAL_RANK='1', TINY_ROOT='/nowhere')
    output = tiny.run('--launcher', 'pytorch', code=1, **rank)

    last = output.splitlines()[-1]
    assert last.startswith("FileNotFoundError: train_dataloader: CustomDataset expects '/nowhere'")
    assert 'export TINY_ROOT=' in last
