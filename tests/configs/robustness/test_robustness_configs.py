# Copyright (c) MMMixPro contributors.
"""Every robustness config: what it tests on, and that nothing else of its model's config changes."""

import runpy
import sys
from pathlib import Path

import pytest
import robustness_sets
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, DefaultScope
from robustness_sets import CORRUPTED, SUITES, suite_of

import mmmixpro  # noqa: F401
from mmmixpro.datasets.robustness.corruptions import BENCHMARK

CONFIGS = Path(__file__).parents[3] / 'configs'
TOOL = CONFIGS.parent / 'tools/test.py'
METHODS = ('cutmix', 'transmix', 'smmix', 'mixpro')  # Table 5's DeiT-S is trained with Mixup and CutMix
BASES = {
    f'{method}_deit-s_{suite}': f'{method}/deit-s_8xb128_in1k.py'
    for method in METHODS
    for suite in SUITES
    if 'cifar100' not in suite
}
for method in ('cutmix', 'mixpro'):
    for suite in ('cifar100-c', 'cifar100-calibration'):
        BASES[f'{method}_deit-s_{suite}'] = f'finetune/{method}_deit-s_8xb96_cifar100.py'


def test_all_leaves_are_here():
    there = {path.stem for path in (CONFIGS / 'robustness').glob('*.py')}
    assert {leaf for leaf in there if suite_of(leaf) in SUITES} == set(BASES)
    suites = {path.stem for path in (CONFIGS / '_base_/robustness').glob('*.py')}
    assert set(SUITES) - {'cifar100-calibration'} <= suites


@pytest.mark.parametrize('leaf', BASES)
def test_only_the_test_changes(leaf):
    cfg, base = (Config.fromfile(CONFIGS / name) for name in (f'robustness/{leaf}.py', BASES[leaf]))
    changed = {key for key in {*cfg, *base} if cfg.get(key) != base.get(key)}
    assert changed == {'robustness', 'test_dataloader', 'test_evaluator'} - (
        {'test_dataloader'} if 'calibration' in leaf else set()
    )
    loader, stock = cfg.test_dataloader, base.test_dataloader
    assert {**loader, 'dataset': None} == {**stock, 'dataset': None}
    assert cfg.test_evaluator == cfg.robustness.evaluator  # and nothing of the old one


@pytest.mark.parametrize('leaf', BASES)
def test_dataset(leaf, load):
    cfg = load(leaf)
    kind, size = SUITES[suite_of(leaf)]
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    assert (type(dataset).__name__, len(dataset)) == (kind, size)
    assert len(dataset.metainfo['classes']) == cfg.model.head.num_classes
    assert ('subset' in dataset.metainfo) == (kind in ('ImageNetA', 'ImageNetO', 'ImageNetR'))
    sample = dataset[size - 1]
    assert sample['inputs'].shape == (3, 224, 224)
    if 'ImageNet' in kind and kind != 'ImageNetC':
        assert sample['data_samples'].gt_label.item() == robustness_sets.shown(sample['inputs'])
    if kind == 'CIFAR100':  # which is in RGB
        assert sample['data_samples'].gt_label.item() == robustness_sets.shown(sample['inputs'].flip(0))
    if suite_of(leaf) in CORRUPTED:
        assert (sample['data_samples'].corruption, sample['data_samples'].severity) == ('fog', 5)


@pytest.mark.parametrize('suite', CORRUPTED)
def test_benchmark_is_whole(suite):
    """As the config has it: 15 corruptions, 5 severities, and a warning where any is missing."""
    dataset = Config.fromfile(CONFIGS / f'robustness/mixpro_deit-s_{suite}.py').test_dataloader.dataset
    assert not {'corruptions', 'severities'} & set(dataset)
    assert dataset.get('allow_missing') is (None if suite == 'corruption' else True)  # which has no files
    assert len(BENCHMARK) == 15


def test_images_of_imagenet_c_stay_as_they_are(load):
    """They are crops of 224 px: resized to 256 px and cropped again they would show a part of themselves."""
    steps = load('mixpro_deit-s_imagenet-c').test_dataloader.dataset.pipeline
    assert [step.type for step in steps] == ['LoadImageFromFile', 'CenterCrop', 'PackInputs']
    assert steps[1].crop_size == 224


@pytest.mark.parametrize('suite', SUITES)
def test_evaluator(suite, load):
    cfg = load(f'mixpro_deit-s_{suite}')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        evaluator = Evaluator(cfg.test_evaluator)
    assert len(evaluator.metrics) == len(cfg.test_evaluator)


def test_missing_set_says_where_to_point_and_where_it_is_from(monkeypatch, tmp_path):
    """By the variable of the set alone: 'data/imagenet-r' is not in $IMAGENET_ROOT, though its name begins so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'model.pth').touch()
    leaf = CONFIGS / 'robustness/mixpro_deit-s_imagenet-r.py'
    monkeypatch.setattr(sys, 'argv', [str(TOOL), str(leaf), 'model.pth'])
    with pytest.raises(FileNotFoundError) as error:
        runpy.run_path(str(TOOL), run_name='__main__')
    assert str(error.value) == (
        f"test_dataloader: ImageNetR expects '{tmp_path}/data/imagenet-r', found only '{tmp_path}'. Say where the data "
        'is: export ROBUSTNESS_ROOT=/path/to/data or --cfg-options test_dataloader.dataset.data_root=/path/to/data. '
        'Unpack imagenet-r.tar of https://github.com/hendrycks/imagenet-r there.'
    )
