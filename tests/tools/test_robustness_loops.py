# Copyright (c) MMMixPro contributors.
"""Occlusion and attacks from the command line, on one rank and on two, as configs/robustness has them."""

import json
import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS, MODELS

SUITE = """
_base_ = ['tiny.py', '{root}/configs/_base_/robustness/{suite}.py']
custom_hooks = []
# Of 15 images the second rank of two has 7.
test_dataloader = dict(batch_size=3, dataset=dict(data_prefix='train', indices=list(range(1, 30, 2))))
test_evaluator = _base_.robustness.evaluator
test_cfg = _base_.robustness.test_cfg
"""
STOCK = """
_base_ = ['tiny.py']
custom_hooks = []
test_dataloader = dict(batch_size=3, dataset=dict(data_prefix='train', indices=list(range(1, 30, 2))))
"""
OPTIONS = dict(
    occlusion=['test_cfg.grid=8'],
    adversarial=['test_cfg.attacks.0.eps=8.0', 'test_cfg.attacks.1.eps=8.0', 'test_cfg.attacks.1.step=3.0'],
)


@pytest.fixture(scope='module')
def checkpoint(tiny):
    """A model that is right about some images."""
    for suite in OPTIONS:
        (tiny.config.parent / f'{suite}.py').write_text(SUITE.format(root=tiny.root, suite=suite))
    (tiny.config.parent / 'stock.py').write_text(STOCK)
    init_default_scope('mmpretrain')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tiny.folder)
        patch.setenv('TINY_ROOT', str(tiny.folder / 'data'))
        cfg = Config.fromfile(tiny.config.parent / 'stock.py')
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=3 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.5)
        logits = model.eval()(model.data_preprocessor(default_collate([*dataset]))['inputs'])
        model.head.layers.head.bias -= logits.mean(0)
    torch.save(dict(state_dict=model.state_dict(), meta=dict()), tiny.folder / 'model.pth')
    return tiny.folder / 'model.pth'


# Both suites within the same ranks, whose start takes longer than the tests.
RANKS = """
import runpy
import sys

from torch import distributed

init = distributed.init_process_group
distributed.init_process_group = lambda *args: distributed.is_initialized() or init(*args)
tool, *commands = sys.argv[1:]
for command in commands:
    sys.argv = [tool, *command.split()]
    runpy.run_path(tool, run_name='__main__')
# Neither leaves while the other still talks to it.
distributed.barrier()
distributed.destroy_process_group()
"""


def arguments(tiny, tmp_path, suite, name, options=()):
    """Of tools/test.py, and where it writes its metrics."""
    out = tmp_path / f'{name}.json'
    options = [*OPTIONS.get(suite, []), *options]
    args = [tiny.config.parent / f'{suite}.py', tiny.folder / 'model.pth', '--out', out, '--work-dir', tmp_path / name]
    return [str(arg) for arg in [*args, *(['--cfg-options', *options] if options else [])]], out


@pytest.fixture
def run(tiny, checkpoint, tmp_path):
    """Metrics of a suite."""

    def run(suite):
        args, out = arguments(tiny, tmp_path, suite, suite)
        tiny.tool('test.py', *args)
        return json.loads(out.read_text())

    return run


@pytest.fixture
def run_ranks(tiny, checkpoint, tmp_path):
    """Metrics of the suites on two ranks."""

    def run_ranks(*options):
        runs = [arguments(tiny, tmp_path, suite, f'{suite}_ranks', options) for suite in OPTIONS]
        (tmp_path / 'ranks.py').write_text(RANKS)
        command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--standalone']
        command += [tmp_path / 'ranks.py', tiny.root / 'tools/test.py']
        command += [' '.join([*args[:2], '--launcher', 'pytorch', *args[2:]]) for args, _ in runs]
        env = dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', TINY_ROOT=str(tiny.folder / 'data'))
        env['PYTHONPATH'] = os.pathsep.join([str(tiny.folder), str(tiny.root)])
        done = subprocess.run(
            [str(part) for part in command], cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(out.read_text()) for _, out in runs]

    return run_ranks


def test_occlusion(run, capsys):
    metrics = run('occlusion')
    kinds = ('random', 'salient', 'non-salient')
    assert set(metrics) == {f'occlusion/{kind}/{percent}' for kind in kinds for percent in range(0, 101, 10)}
    shown = capsys.readouterr()
    assert 'salient by class attention of the model under test (VisionTransformer, mean over heads)' in shown.out
    assert 'settings' in shown.err
    clean = run('stock')['accuracy/top1']
    assert 0 < clean < 100
    assert {metrics[f'occlusion/{kind}/0'] for kind in kinds} == {clean}
    assert len(set(metrics.values())) > 4


def test_attacks(run, capsys):
    metrics = run('adversarial')
    assert set(metrics) == {'adversarial/clean', 'adversarial/fgsm', 'adversarial/pgd'}
    assert metrics['adversarial/clean'] == run('stock')['accuracy/top1']
    assert metrics['adversarial/pgd'] < metrics['adversarial/clean']
    assert 'pgd: eps 8/255, 5 steps of 3/255, random start by seed 0' in capsys.readouterr().out


@pytest.mark.slow
def test_two_ranks_find_the_same(run, run_ranks):
    assert run_ranks() == [run(suite) for suite in OPTIONS]


@pytest.mark.slow
def test_two_ranks_in_mixed_precision(run_ranks):
    assert [len(metrics) for metrics in run_ranks('test_cfg.fp16=True')] == [33, 3]
