# Copyright (c) MMMixPro contributors.
"""Every robustness config: what it tests on, that nothing else of its model's config changes, and the figures of it."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import robustness_sets
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, DefaultScope
from mmpretrain.registry import MODELS

import mmmixpro  # noqa: F401
from mmmixpro.datasets.robustness.corruptions import BENCHMARK

CONFIGS = Path(__file__).parents[2] / 'configs'
TOOL = CONFIGS.parent / 'tools/test.py'
METHODS = ('cutmix', 'transmix', 'mixpro')  # of Table 5, whose DeiT-S is trained with Mixup and CutMix
# Of each suite its dataset, and how many images the miniature has.
SUITES = {
    'calibration': ('ImageNet', 1000),
    'imagenet-a': ('ImageNetA', 200),
    'imagenet-o': ('ImageNetO', 400),
    'imagenet-r': ('ImageNetR', 200),
    'imagenet-sketch': ('ImageNetSketch', 1000),
    'imagenet-v2': ('ImageNetV2', 1000),
    'imagenet-c': ('ImageNetC', 4000),
    'corruption': ('CorruptedDataset', 4000),
    'cifar100-c': ('CIFAR100C', 40000),
}
BASES = {
    f'{method}_deit-s_{suite}': f'{method}/deit-s_8xb128_in1k.py'
    for method in METHODS
    for suite in SUITES
    if suite != 'cifar100-c'
}
for method in ('cutmix', 'mixpro'):
    BASES[f'{method}_deit-s_cifar100-c'] = f'finetune/{method}_deit-s_8xb96_cifar100.py'
CORRUPTED = ('imagenet-c', 'corruption', 'cifar100-c')


def suite_of(leaf):
    return leaf.split('_deit-s_')[1]


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    root = tmp_path_factory.mktemp('roots')
    robustness_sets.write_imagenet(root / 'imagenet', side=224)  # as ImageNet-C has them
    robustness_sets.link_sets(root / 'sets', root / 'imagenet')
    robustness_sets.write_cifar100_c(root / 'sets/cifar100-c')
    return root


@pytest.fixture
def load(roots, monkeypatch):
    """A leaf on the miniatures; what is corrupted by two corruptions at two severities, as those have it."""
    monkeypatch.setenv('IMAGENET_ROOT', str(roots / 'imagenet'))
    monkeypatch.setenv('ROBUSTNESS_ROOT', str(roots / 'sets'))

    def load(leaf):
        cfg = Config.fromfile(CONFIGS / f'robustness/{leaf}.py')
        dataset = cfg.test_dataloader.dataset
        if suite_of(leaf) in CORRUPTED:
            dataset.update(corruptions=['gaussian_noise', 'fog'], severities=[1, 5])
        # Serialising collects garbage, which takes seconds within pytest.
        dataset.get('dataset', dataset).serialize_data = False
        return cfg

    return load


def test_all_leaves_are_here():
    there = {path.stem for path in (CONFIGS / 'robustness').glob('*.py')}
    assert {leaf for leaf in there if suite_of(leaf) in SUITES} == set(BASES)
    assert set(SUITES) <= {path.stem for path in (CONFIGS / '_base_/robustness').glob('*.py')}


@pytest.mark.parametrize('leaf', BASES)
def test_only_the_test_changes(leaf):
    cfg, base = (Config.fromfile(CONFIGS / name) for name in (f'robustness/{leaf}.py', BASES[leaf]))
    changed = {key for key in {*cfg, *base} if cfg.get(key) != base.get(key)}
    assert changed == {'robustness', 'test_dataloader', 'test_evaluator'} - (
        {'test_dataloader'} if suite_of(leaf) == 'calibration' else set()
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


class ColourReader(BaseModel):
    """Is sure of the class that the first pixel shows."""

    def __init__(self, data_preprocessor, num_classes, **kwargs):
        super().__init__({'type': 'ClsDataPreprocessor', **data_preprocessor})
        self.scores = torch.nn.Parameter(torch.eye(num_classes))

    def forward(self, inputs, data_samples, mode):
        processor = self.data_preprocessor
        rgb = (inputs * processor.std + processor.mean).round().long()[:, :, 0, 0]
        shown = (rgb[:, 2] + 256 * rgb[:, 1]).clamp(0, len(self.scores) - 1)
        for sample, scores in zip(data_samples, self.scores[shown], strict=True):
            sample.set_pred_score(scores).set_pred_label(scores.argmax(0))
        return data_samples


@pytest.fixture
def tested(load, tmp_path, monkeypatch):
    """What the stock ``tools/test.py`` reports of a leaf, with a model that reads the colours."""
    MODELS.register_module(name='ColourReader', module=ColourReader, force=True)

    def tested(leaf, indices):
        cfg = load(leaf)
        dataset = cfg.test_dataloader.dataset
        dataset.get('dataset', dataset).indices = list(indices)
        cfg.test_dataloader.num_workers = 0
        classes = cfg.model.head.num_classes
        cfg.model = dict(type='ColourReader', num_classes=classes)
        torch.save(dict(state_dict=dict(scores=torch.eye(classes))), tmp_path / 'model.pth')
        cfg.dump(tmp_path / f'{leaf}.py')
        monkeypatch.setattr(Config, 'pretty_text', '')  # from here on for the log alone, and slow
        metrics = tmp_path / 'metrics.json'
        args = [tmp_path / f'{leaf}.py', tmp_path / 'model.pth', '--out', metrics, '--work-dir', tmp_path / 'work']
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, args)])
        runpy.run_path(str(TOOL), run_name='__main__')
        return json.loads(metrics.read_text())

    yield tested
    MODELS.module_dict.pop('ColourReader')


def figures(prefix, **values):
    return {f'{prefix}/{name}': value for name, value in values.items()}


PERFECT = {
    'calibration': figures('calibration', ece=0, ece_mass=0, rms=0, rms_hendrycks=0),
    'imagenet-a': figures('imagenet-a', top1=100, top1_all=100, rms=0, rms_hendrycks=0, aurra=100),
    'imagenet-o': figures('imagenet-o', aupr=50),  # as sure of what it has never seen
    'imagenet-r': figures('imagenet-r', top1=100, top1_all=100),
    'imagenet-sketch': figures('imagenet-sketch', top1=100),
    'imagenet-v2': figures('imagenet-v2', top1=100),
    'imagenet-c': figures('corruption', gaussian_noise=0, fog=0, error=0),
}


@pytest.mark.parametrize('suite', PERFECT)
def test_figures_of_a_perfect_model(suite, tested):
    size = SUITES[suite][1]
    assert PERFECT[suite].items() <= tested(f'mixpro_deit-s_{suite}', range(0, size, size // 100)).items()


@pytest.mark.parametrize(('suite', 'indices'), [('corruption', range(3)), ('cifar100-c', range(0, 40000, 5000))])
def test_figures_of_corrupted_images(suite, indices, tested):
    figures = tested(f'mixpro_deit-s_{suite}', indices)
    assert {'corruption/gaussian_noise', 'corruption/fog', 'corruption/error'} <= set(figures)
    assert all(0 <= figure <= 100 for figure in figures.values())


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
