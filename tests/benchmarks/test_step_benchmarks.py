# Copyright (c) MMMixPro contributors.
"""The benchmarks run, and their figures are what they say."""

import json
import runpy
import sys
from pathlib import Path

import harness
import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a script as its user does, but in this process; returns its JSON."""

    def run(script, *options):
        out = tmp_path / f'{script}.json'
        monkeypatch.setattr(
            sys, 'argv', [str(BENCHMARKS / f'{script}.py'), '--device', 'cpu', '--out', str(out), *options]
        )
        runpy.run_path(str(BENCHMARKS / f'{script}.py'), run_name='__main__')
        results = json.loads(out.read_text())
        assert results['seed'] == 0
        assert results['command'].startswith(f'python benchmarks/{script}.py --device cpu')
        assert {'commit', 'device', 'cores', 'threads', 'versions'} <= results.keys()
        return results

    return run


def test_a_folder_of_configs_is_a_method(tmp_path, monkeypatch):
    for folder in ('transmix', 'baseline', 'newmix', '_base_'):
        (tmp_path / 'configs' / folder).mkdir(parents=True)
    for folder in ('transmix', 'baseline', 'newmix'):
        (tmp_path / f'configs/{folder}/deit-t_8xb128_in1k.py').touch()
    (tmp_path / 'configs/newmix/pvt-t_8xb128_in1k.py').touch()
    monkeypatch.setattr(harness, 'ROOT', tmp_path)
    assert list(harness.find_methods('deit-t')) == ['baseline', 'newmix', 'transmix']
    with pytest.raises(ValueError, match=r"No configs/baseline/pvt-t.*\['deit-t'\]"):
        harness.find_methods('pvt-t')


def test_all_methods_of_the_project_are_found():
    assert {'baseline', 'cutmix', 'mixpro', 'transmix'} <= set(harness.find_methods('deit-t'))


def test_interleave_times_each_step_in_each_round(monkeypatch):
    clock, seen = [0.0], []
    monkeypatch.setattr(harness.time, 'perf_counter', lambda: clock[0])

    def step(name, seconds):
        def step():
            seen.append(name)
            clock[0] += seconds

        return step

    times = harness.interleave(dict(a=step('a', 1.0), b=step('b', 3.0)), rounds=20, warmup=2, seed=0)
    assert times == dict(a=[1.0] * 20, b=[3.0] * 20)
    rounds = [tuple(seen[i : i + 2]) for i in range(0, len(seen), 2)]
    assert len(rounds) == 22
    assert set(rounds) == {('a', 'b'), ('b', 'a')}


def test_ratios_go_pair_by_pair():
    found = harness.ratios(dict(base=[1.0, 2.0, 4.0], other=[2.0, 4.0, 20.0]), 'base')
    assert found['base'] == dict(median=1.0, q1=1.0, q3=1.0)
    assert found['other'] == dict(median=2.0, q1=2.0, q3=3.5)
    assert harness.spread([5.0]) == dict(median=5.0, q1=5.0, q3=5.0)


def test_results_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['benchmarks/x.py'])
    args = harness.common_arguments('').parse_args(['--device', 'cpu', '--out', str(tmp_path / 'x.json')])
    harness.save(args, dict(rows=[1]))
    with pytest.raises(TypeError):
        harness.save(args, dict(rows=[torch.zeros(1)]))
    assert json.loads((tmp_path / 'x.json').read_text())['rows'] == [1]


def test_train_step(run):
    options = ['--batch-size', '2', '--rounds', '2', '--warmup', '0', '--methods', 'mixpro']
    (result,) = run('train_step', *options)['results']
    rows = {row['method']: row for row in result['rows']}
    assert list(rows) == ['baseline', 'mixpro', 'timm']
    assert rows['baseline']['ratio'] == dict(median=1.0, q1=1.0, q3=1.0)
    for row in rows.values():
        assert len(row['times']) == 2
        assert row['images_per_second'] == pytest.approx(2 / row['seconds']['median'])
        # Activations of two images in a DeiT-T: tens of megabytes.
        assert 2e7 < row['peak_bytes'] < 3e8
    (own,) = run('train_step', *options, 'tokenmix/precomputed', 'smmix', '--own-mixer')['results']
    assert [row['method'] for row in own['rows']] == ['baseline', 'mixpro', 'smmix', 'tokenmix/precomputed', 'timm']
    with pytest.raises(ValueError, match=r"'mixpro/other' is none .*deit-t_8xb128_in1k"):
        run('train_step', '--methods', 'mixpro/other')
    with pytest.raises(ValueError, match=r"\['other'\]: configs/ has \['baseline'"):
        run('train_step', '--methods', 'other')
    with pytest.raises(SystemExit):
        run('train_step', '--precision', 'fp16')


def test_every_batch_by_the_methods_own_mixer():
    for name, path in harness.find_methods('deit-t').items():
        model = harness.timing_config(path, own_mixer=True).model
        if name not in ('baseline', 'cutmix'):
            assert len(model.train_cfg.augments) == 1 and model.train_cfg.augments[0].type not in ('Mixup', 'CutMix')


def test_mixing_ops(run):
    results = run('mixing_ops', '--batch-size', '4', '--rounds', '2')
    assert results['image_bytes'] == 4 * 3 * 224 * 224 * 4
    rows = {row['mixer']: row for row in results['rows']}
    mixers = {'GridMix', 'MixProBatchAugment', 'SaliencyMix', 'TransMixBatchAugment'}
    assert {'copy', 'mmpretrain CutMix', 'timm CutMix'} | mixers <= rows.keys()
    assert not {'AttentiveCutMix', 'TokenMix'} & rows.keys()  # their teachers' time is no question of bytes
    assert rows['copy']['ratio_to_bytes_moved']['median'] == pytest.approx(2 / 3)
    assert rows['mmpretrain CutMix']['ratio_to_cutmix']['median'] == 1


def test_scaling(run, tmp_path, monkeypatch):
    figure = tmp_path / 'figures' / 'scaling.svg'
    rows = run('scaling', '--rounds', '2', '--scale', '0.0625', '--figure', str(figure))['rows']
    assert {row['axis'] for row in rows} == {'batch', 'side', 'classes'}
    assert {'mixpro', 'transmix'} < {row['method'] for row in rows}
    assert figure.read_text().count('<svg') == 1


def test_runner_overhead(run):
    config = str(BENCHMARKS.parent / 'configs/demo/deit_shapes.py')
    results = run(
        'runner_overhead',
        '--config',
        config,
        '--image-size',
        '64',
        '--batch-size',
        '2',
        '--rounds',
        '2',
        '--block',
        '1',
    )
    assert [row['way'] for row in results['rows']] == ['stock', 'ours', 'deferred']
    for row in results['rows']:
        assert {name: len(values) for name, values in row['times'].items()} == dict(runner=2, bare=2)
