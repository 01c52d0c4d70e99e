# Copyright (c) MMMixPro contributors.
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmpretrain.registry import METRICS
from oracles import robustness as oracle

from mmmixpro.evaluation.corruption import ALEXNET_ERRORS

rng = np.random.RandomState(0)
BASELINE = dict(fog=60.0, snow=80.0, clean=40.0)


def draw(names, severities, num=400):
    """Unequal numbers of samples of each kind, of which some are right."""
    weights = np.random.rand(len(names) * len(severities)) + 0.2
    kinds = [(name, level) for name in names for level in severities]
    picks = np.concatenate([np.arange(len(kinds)), np.random.choice(len(kinds), num, p=weights / weights.sum())])
    corruption, severity = zip(*(kinds[pick] for pick in picks), strict=True)
    return list(corruption), list(severity), np.random.rand(len(picks)) < 0.2 + 0.6 * picks / len(kinds)


@pytest.fixture
def figures_of(make_samples, evaluate):
    def figures_of(corruption, severity, correct, num_classes=3, **kwargs):
        scores = torch.eye(num_classes)[[0 if right else 1 for right in correct]]
        samples = make_samples(scores, [0] * len(correct), corruption=corruption, severity=severity)
        return evaluate([METRICS.build(dict(type='CorruptionError', **kwargs))], samples)

    return figures_of


def test_against_the_oracle(figures_of):
    corruption, severity, correct = draw(['snow', 'fog', 'frost'], range(1, 6))
    figures = figures_of(corruption, severity, correct, baseline=BASELINE, clean_error=25.0)
    errors = {name: 100 * e for name, e in oracle.corruption_errors(corruption, severity, correct).items()}
    baseline = dict(fog=60.0, snow=80.0)
    assert figures == {
        **{f'corruption/{name}': pytest.approx(error) for name, error in errors.items()},
        'corruption/error': pytest.approx(np.mean(list(errors.values()))),
        'corruption/mce': pytest.approx(100 * oracle.mean_corruption_error(errors, baseline)),
        'corruption/relative_mce': pytest.approx(100 * oracle.mean_corruption_error(errors, baseline, 25.0, 40.0)),
    }
    # Over samples, not over severities, it would be something else.
    frost = [right for name, right in zip(corruption, correct, strict=True) if name == 'frost']
    assert figures['corruption/frost'] != pytest.approx(100 - 100 * np.mean(frost), abs=0.5)


@pytest.mark.parametrize(('right', 'error'), [(True, 0), (False, 100)])
def test_all_right_and_all_wrong(figures_of, right, error):
    corruption, severity, correct = draw(['snow', 'fog'], range(1, 6))
    figures = figures_of(corruption, severity, [right] * len(correct), baseline=dict(BASELINE))
    assert figures['corruption/error'] == error
    assert figures['corruption/mce'] == pytest.approx(error * (1 / 60 + 1 / 80) / 2 * 100)
    assert 'corruption/relative_mce' not in figures


def test_one_sample(figures_of):
    assert figures_of(['fog'], [3], [False], baseline=None) == {'corruption/fog': 100, 'corruption/error': 100}


def test_alexnet_compared_with_itself(figures_of):
    """Its own errors, to the resolution of 500 images a kind, give 100 %; they are those of the paper's Appendix C."""
    printed = [.886, .894, .923, .820, .826, .786, .798, .867, .827, .819, .565, .853, .646, .718, .607]  # fmt: skip
    errors = {name: error for name, error in ALEXNET_ERRORS.items() if name != 'clean'}
    assert [round(error / 100, 3) for error in errors.values()] == pytest.approx(printed, abs=5.1e-4)
    assert ALEXNET_ERRORS['clean'] == pytest.approx(43.5, abs=0.05)

    kinds = [(name, level) for name in errors for level in range(1, 6)]
    corruption, severity = (list(np.repeat(values, 500)) for values in zip(*kinds, strict=True))
    correct = np.concatenate([np.arange(500) >= 5 * errors[name] for name, _ in kinds])
    figures = figures_of(corruption, [int(s) for s in severity], correct, num_classes=1000, clean_error=43.478)
    assert figures['corruption/mce'] == pytest.approx(100, abs=0.2)
    assert figures['corruption/relative_mce'] == pytest.approx(100, abs=0.5)
    assert len(figures) == 15 + 3


def test_no_mce_of_a_part(figures_of, warnings_of):
    corruption, severity, correct = draw(['snow', 'fog'], range(1, 6))
    less = [(c, s) != ('fog', 4) for c, s in zip(corruption, severity, strict=True)]
    args = [list(np.array(column)[less]) for column in (corruption, severity, correct)]
    args[1] = [int(s) for s in args[1]]
    figures, warnings = warnings_of(lambda: figures_of(*args, baseline=BASELINE))
    assert figures.keys() == {'corruption/fog', 'corruption/snow', 'corruption/error'}
    assert figures['corruption/fog'] == pytest.approx(100 * oracle.corruption_errors(*args)['fog'])
    assert 'lacks fog, or some of their 5 severities or images: no mCE' in warnings
    assert 'some corruptions at other severities than others' in warnings

    _, warnings = warnings_of(lambda: figures_of(corruption, severity, correct, baseline=dict(BASELINE, frost=50.0)))
    assert 'lacks frost, or' in warnings
    assert 'other severities' not in warnings


def test_alexnet_says_nothing_of_other_classes(figures_of, warnings_of):
    corruption, severity, correct = draw(list(ALEXNET_ERRORS)[:15], range(1, 6))
    figures, warnings = warnings_of(lambda: figures_of(corruption, severity, correct, num_classes=64))
    assert 'corruption/mce' not in figures
    assert warnings.count('compares with AlexNet on 1000 classes, the model has 64: no mCE') == 1
    figures, warnings = warnings_of(lambda: figures_of(corruption, severity, correct, baseline=None))
    assert 'corruption/mce' not in figures
    assert not warnings

    # Of 1000 it does, if none of ImageNet-C's images are missing.
    figures, warnings = warnings_of(lambda: figures_of(corruption, severity, correct, num_classes=1000))
    assert 'corruption/mce' not in figures and 'severities or images: no mCE' in warnings
    assert 'corruption/mce' in figures_of(*draw(list(ALEXNET_ERRORS)[:15], range(1, 6), num=0), num_classes=1000)


def test_a_copy_knows_alexnet_too(make_samples, evaluate, warnings_of):
    """Loops that test several settings copy the metric for each."""
    corruption, severity, correct = draw(list(ALEXNET_ERRORS)[:15], range(1, 6))
    samples = make_samples(
        torch.eye(3)[correct.astype(int)], [0] * len(correct), corruption=corruption, severity=severity
    )
    metric = deepcopy(METRICS.build(dict(type='CorruptionError')))
    figures, warnings = warnings_of(lambda: evaluate([metric], samples))
    assert 'corruption/mce' not in figures
    assert 'compares with AlexNet on 1000 classes, the model has 3: no mCE' in warnings


@pytest.mark.parametrize('baseline', [{}, dict(clean=40.0), dict(fog=0.6), dict(fog=0.0), dict(fog=120.0)])
def test_baselines_that_are_not_in_percent_are_refused(baseline):
    with pytest.raises(ValueError, match='expects baseline errors in percent by corruption, such as gaussian_noise'):
        METRICS.build(dict(type='CorruptionError', baseline=baseline))


@pytest.mark.parametrize('severity', [0, 6])
def test_other_severities_are_refused(figures_of, severity):
    with pytest.raises(ValueError, match=rf'expected severities of 1 to 5, found \[1, {severity}\]|\[{severity}, 1\]'):
        figures_of(['fog', 'fog'], [1, severity], [True, True])


def test_names_are_never_cut(figures_of):
    name = 'x' * 32
    assert f'corruption/{name}' in figures_of([name], [1], [True])
    with pytest.raises(ValueError, match='names of corruptions of at most 32 bytes'):
        figures_of(['x' * 33], [1], [True])
