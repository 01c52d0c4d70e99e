# Copyright (c) MMMixPro contributors.
"""What the robustness configs make of known predictions: their evaluators, and the stock ``tools/test.py``."""

import json
import math
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from robustness_sets import SUITES

import mmmixpro  # noqa: F401

TOOL = Path(__file__).parents[3] / 'tools/test.py'


@pytest.fixture
def judge(load):
    """The figures of a leaf, of rows ``(others, first, second, right, meta)``.

    Scores are those of a class that the set does not have, and of the first two that it has; ``right`` is the place of
    the label among the three, and each row stands for ``times`` samples.
    """

    def judge(suite, rows, times=1):
        cfg = load(f'mixpro_deit-s_{suite}')
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            meta = DATASETS.build(cfg.test_dataloader.dataset).metainfo
            evaluator = Evaluator(cfg.test_evaluator)
        evaluator.dataset_meta = meta
        other = next(index for index in range(1000) if index not in meta['subset'])
        classes = [other, *meta['subset'][:2]]
        for *scores, right, notes in rows:
            sample = DataSample(metainfo=notes).set_gt_label(classes[right])
            sample.set_pred_score(torch.zeros(1000).index_put((torch.tensor(classes),), torch.tensor(scores)))
            evaluator.process([sample] * times)
        return evaluator.evaluate(len(rows) * times)

    return judge


def test_imagenet_a_by_hand(judge):
    """Among all classes each prediction is another set's, with a confidence of 0.6; among the 200 it is not."""
    # So of 300 samples a third each is sure by 0.5, 0.75 and 0.9, and right only in the middle.
    figures = judge('imagenet-a', [(0.6, 0.2, 0.2, 2, {}), (0.6, 0.3, 0.1, 1, {}), (0.6, 0.36, 0.04, 2, {})], 100)
    squares = 0.5**2, 0.25**2, 0.9**2
    curve = [0] * 100 + [(k - 100) / k for k in range(101, 201)] + [100 / k for k in range(201, 301)]
    assert figures == {
        'imagenet-a/top1': pytest.approx(100 / 3),
        'imagenet-a/top1_all': 0,
        'imagenet-a/rms': pytest.approx(100 * math.sqrt(sum(squares) / 3), abs=1e-4),
        'imagenet-a/rms_hendrycks': pytest.approx(100 * math.sqrt(sum(squares[:2]) / 3), abs=1e-4),
        'imagenet-a/aurra': pytest.approx(100 * sum(curve) / 300, abs=1e-4),
    }


def test_imagenet_o_by_hand(judge):
    """Unknown images are sure by 0.5 and 0.8 among the 200 classes, known ones by 0.75 and 0.9; among all by 0.6."""
    out, known = dict(ood=True), dict(ood=False)
    rows = [(0.6, 0.2, 0.2, 1, out), (0.6, 0.3, 0.1, 1, known), (0.6, 0.32, 0.08, 1, out), (0.6, 0.36, 0.04, 1, known)]
    # From the least sure on: the first is unknown, and two of the first three are.
    assert judge('imagenet-o', rows) == {'imagenet-o/aupr': pytest.approx(100 * (1 / 2 + 2 / 3 / 2))}


def test_imagenet_r_by_hand(judge):
    rows = [(0.6, 0.3, 0.1, 1, {}), (0.1, 0.3, 0.6, 2, {}), (0.6, 0.1, 0.3, 1, {})]
    figures = {'imagenet-r/top1': 200 / 3, 'imagenet-r/top1_all': 100 / 3}
    assert judge('imagenet-r', rows) == pytest.approx(figures)


class ColourReader(BaseModel):
    """Is sure of the class that the first pixel shows: the sum of red, green and blue by their weights."""

    def __init__(self, data_preprocessor, num_classes, weights=(0, 256, 1), **kwargs):
        super().__init__({'type': 'ClsDataPreprocessor', **data_preprocessor})
        self.scores = torch.nn.Parameter(torch.eye(num_classes))
        self.weights = torch.tensor(weights)

    def forward(self, inputs, data_samples, mode):
        processor = self.data_preprocessor
        rgb = (inputs * processor.std + processor.mean).round().long()[:, :, 0, 0]
        shown = (rgb * self.weights).sum(1).clamp(0, len(self.scores) - 1)
        for sample, scores in zip(data_samples, self.scores[shown], strict=True):
            sample.set_pred_score(scores).set_pred_label(scores.argmax(0))
        return data_samples


@pytest.fixture
def tested(load, tmp_path, monkeypatch):
    """What the stock ``tools/test.py`` reports of a leaf, with a model that reads the colours."""
    MODELS.register_module(name='ColourReader', module=ColourReader, force=True)

    def tested(leaf, indices, model={}, dataset={}):
        cfg = load(leaf)
        whole = cfg.test_dataloader.dataset
        whole.update(dataset)
        whole.get('dataset', whole).indices = list(indices)
        cfg.test_dataloader.num_workers = 0
        classes = cfg.model.head.num_classes
        cfg.model = dict(type='ColourReader', num_classes=classes, **model)
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
    'cifar100-calibration': figures('calibration', ece=0, ece_mass=0, rms=0, rms_hendrycks=0),
}


@pytest.mark.parametrize('suite', PERFECT)
def test_figures_of_a_perfect_model(suite, tested):
    size = SUITES[suite][1]
    assert PERFECT[suite].items() <= tested(f'mixpro_deit-s_{suite}', range(0, size, size // 100)).items()


def test_figures_of_images_corrupted_on_the_fly(tested):
    """Flat images stay as they are when pixelated, and are brightened by a factor, of 200 / 255 as brightest channel.

    That is by 0.1 at severity 1, where blue of 0, 5 and 100 is 0, 5.64 and 112.7, and to the end of the scale at
    severity 5, where it is 0, 6.38 and 127.5; fractions are cut off.
    """
    corrupted = tested('mixpro_deit-s_corruption', [0, 5, 100], dataset=dict(corruptions=['pixelate', 'brightness']))
    assert corrupted == pytest.approx(figures('corruption', pixelate=0, brightness=100 * (1 / 3 + 2 / 3) / 2, error=25))


def test_figures_of_cifar100_c(tested):
    """A model that reads red alone: it is right of the first image of a severity, wrong of the second, right again."""
    # Of noise at severities 1 and 5 the first two and the first, of fog the second and the first four.
    indices = [0, 1, 10000, 20001, 30000, 30001, 30002, 30003]
    corrupted = tested('mixpro_deit-s_cifar100-c', indices, model=dict(weights=(1, 0, 0)))
    noise, fog = (50 + 0) / 2, (100 + 25) / 2
    assert corrupted == pytest.approx(figures('corruption', gaussian_noise=noise, fog=fog, error=(noise + fog) / 2))
