# Copyright (c) MMMixPro contributors.
import numpy as np
import pytest
import torch
from mmpretrain.registry import METRICS
from oracles import robustness as oracle
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import multiclass_calibration_error

# Each with the option that decides the bins.
EQUAL_WIDTH = ('ece', 'ExpectedCalibrationError', 'num_bins')
EQUAL_MASS = ('ece_mass', 'EqualMassCalibrationError', 'num_bins')
RMS = ('rms', 'RMSCalibrationError', 'bin_size')
HENDRYCKS = ('rms_hendrycks', 'HendrycksRMSCalibrationError', 'bin_size')
ALL = [EQUAL_WIDTH, EQUAL_MASS, RMS, HENDRYCKS]

rng = np.random.RandomState(0)
SKEWED = rng.beta(5, 1, 301)


def right(confidence, seed=1):
    """Now more, now less often right than confidence says: in a wrong bin, the gaps would cancel out otherwise."""
    share = 0.5 + 0.5 * np.sin(50 * np.asarray(confidence))
    return np.random.RandomState(seed).rand(len(confidence)) < share


CASES = {
    'random': SKEWED,
    'not sorted, n a multiple of the bin': SKEWED[:300],
    'ties': np.round(SKEWED, 1),
    'ties over the edges of bins': np.repeat([0.2, 0.4, 0.9], [130, 7, 164]),
    'one value': np.full(250, 0.7),
    'edges of 15 bins': np.tile(np.arange(16) / 15, 20),
    'edges of 7 and 8 bins': np.tile(np.concatenate([np.arange(8) / 7, np.arange(9) / 8]), 15),
    'one above and below the edges': np.concatenate([np.nextafter(np.arange(1, 15) / 15, side) for side in (0, 1)] * 8),
    'only 0 and 1': np.repeat([0.0, 1.0], [120, 130]),
    'only 1': np.ones(213),
    'only 0': np.zeros(213),
    'most bins empty': np.concatenate([np.full(110, 0.05), np.full(111, 0.95)]),
    'one more than two bins': SKEWED[:201],
    'one less than two bins': SKEWED[:199],
}


@pytest.mark.parametrize('metric', ALL, ids=lambda metric: metric[0])
@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('which', ['some', 'all', 'none'])
def test_against_the_oracle(metric, name, which, make_confident, evaluate):
    key, cls, option = metric
    confidence = CASES[name]
    correct = dict(some=right(confidence), all=confidence >= 0, none=confidence < 0)[which]
    values = (1, 7, 8, 15) if option == 'num_bins' else (1, 7, 100)
    metrics = [METRICS.build({'type': cls, option: value, 'prefix': str(value)}) for value in values]
    figures = evaluate(metrics, make_confident(confidence, correct))
    for value in values:
        expected = 100 * getattr(oracle, key)(confidence, correct, value)
        assert figures[f'{value}/{key}'] == pytest.approx(expected, abs=1e-11), value


def test_bins_are_closed_above(make_confident, evaluate):
    """By hand, 4 bins: 0 and 1/4 share the first, 3/8 and 1/2 the second; 3/4 and 1 have one each."""
    confidence = [0.0, 0.25, 0.375, 0.5, 0.75, 1.0]
    correct = [True, False, True, False, True, False]
    gaps = [(0 + 0.25) - 1, (0.375 + 0.5) - 1, 0.75 - 1, 1]
    metric = METRICS.build(dict(type='ExpectedCalibrationError', num_bins=4))
    figures = evaluate([metric], make_confident(confidence, correct))
    assert figures['calibration/ece'] == pytest.approx(100 * sum(map(abs, gaps)) / 6)


@pytest.mark.parametrize('metric', [EQUAL_WIDTH, EQUAL_MASS, RMS], ids=lambda metric: metric[0])
@pytest.mark.parametrize('num', [1, 2, 14, 15, 16, 99])
def test_fewer_samples_than_a_bin(metric, num, make_confident, evaluate):
    key, cls, option = metric
    confidence, correct = SKEWED[:num], right(SKEWED[:num])
    figures = evaluate([METRICS.build(dict(type=cls))], make_confident(confidence, correct))
    expected = getattr(oracle, key)(confidence, correct, dict(num_bins=15, bin_size=100)[option])
    assert figures == {f'calibration/{key}': pytest.approx(100 * expected, abs=1e-11)}


@pytest.mark.parametrize(('num', 'bins', 'figures'), [
    (99, 0, {}), (100, 1, {'calibration/rms_hendrycks': 0}), (199, 1, {'calibration/rms_hendrycks': 0}),
])  # fmt: skip
def test_the_original_needs_two_bins(num, bins, figures, make_confident, evaluate, warnings_of):
    """Of less it says nothing, and so does a warning; other metrics are not held up."""
    metrics = [METRICS.build(dict(type=cls)) for _, cls, _ in (HENDRYCKS, EQUAL_WIDTH)]
    samples = make_confident(SKEWED[:num], right(SKEWED[:num]))
    found, warnings = warnings_of(lambda: evaluate(metrics, samples))
    assert found.pop('calibration/ece') > 0
    assert found == figures
    assert f'of {num} samples, {bins} bins of 100, the last bin is left out: nothing is left' in warnings


def test_what_the_original_code_gives():
    """Of its `calib_err`, run on the same draws in turn."""
    figures = {100: '0x0.0p+0', 250: '0x1.9f8c938183081p-4', 1000: '0x1.6a7aa10da7809p-3', 1001: '0x1.4e837cebf7560p-3'}
    draws = np.random.RandomState(42)
    metric = METRICS.build(dict(type='HendrycksRMSCalibrationError'))
    for num, figure in figures.items():
        confidence = draws.rand(num)
        correct = draws.rand(num) < confidence**2
        assert metric.calculate(confidence, correct) == pytest.approx(float.fromhex(figure), rel=1e-14, abs=0), num


def test_ties_as_the_original_has_them(make_confident, evaluate):
    """The oracle's order of equals, NumPy's, to the bit."""
    for name, confidence in CASES.items():
        correct = right(confidence)
        metric = METRICS.build(dict(type='HendrycksRMSCalibrationError', bin_size=7))
        figures = evaluate([metric], make_confident(confidence, correct))
        assert figures['calibration/rms_hendrycks'] == 100 * oracle.rms_hendrycks(confidence, correct, 7), name


def test_the_last_bin_is_what_the_original_lacks(make_confident, evaluate):
    """Without ties both are the same where the last bin, the rest included, is calibrated to the point."""
    sure = np.nextafter(1, 0)
    confidence = np.concatenate([np.sort(SKEWED[:200]) * 0.9, np.linspace(0.95, sure, 130)])
    correct = np.concatenate([right(SKEWED[:200]), np.ones(130, dtype=bool)])
    correct[-1] = False
    metrics = [METRICS.build(dict(type=cls)) for _, cls, _ in (RMS, HENDRYCKS)]
    figures = evaluate(metrics, make_confident(confidence, correct))
    mended, original = figures['calibration/rms'] / 100, figures['calibration/rms_hendrycks'] / 100
    last = 130 / 330 * (confidence[200:].mean() - correct[200:].mean()) ** 2
    assert last > 0
    assert mended**2 - original**2 == pytest.approx(last)


@pytest.mark.parametrize('metric', [EQUAL_WIDTH, EQUAL_MASS, RMS], ids=lambda metric: metric[0])
@pytest.mark.parametrize('name', ['random', 'ties', 'ties over the edges of bins', 'edges of 15 bins'])
def test_the_order_of_samples_does_not_matter(metric, name, make_confident, evaluate):
    confidence = CASES[name]
    correct = right(confidence)
    figures = set()
    for order in [
        np.arange(len(confidence)),
        np.argsort(correct),
        np.argsort(~correct),
        np.random.permutation(len(correct)),
    ]:
        samples = make_confident(confidence[order], correct[order])
        figures.add(evaluate([METRICS.build(dict(type=metric[1]))], samples)[f'calibration/{metric[0]}'])
    assert len(figures) == 1


def test_equal_width_against_torchmetrics_and_scikit_learn(make_samples, evaluate):
    scores = np.random.dirichlet(np.full(5, 0.4), 400)
    labels = np.random.randint(0, 5, 400)
    confidence, correct = scores.max(1), scores.argmax(1) == labels
    for num_bins in (4, 15):
        metric = METRICS.build(dict(type='ExpectedCalibrationError', num_bins=num_bins))
        ece = evaluate([metric], make_samples(scores, labels))['calibration/ece'] / 100

        preds, target = torch.as_tensor(scores), torch.as_tensor(labels)
        theirs = multiclass_calibration_error(preds, target, num_classes=5, n_bins=num_bins)
        assert ece == pytest.approx(theirs.item(), abs=1e-6)  # it sums in float32

        accuracy, mean = calibration_curve(correct, confidence, n_bins=num_bins)
        sizes = np.histogram(confidence, num_bins, (0, 1))[0]
        assert ece == pytest.approx((sizes[sizes > 0] / 400) @ np.abs(accuracy - mean), abs=1e-12)


def test_bins_of_one_sample_against_scikit_learn(make_confident, evaluate):
    """Then RMS is the root of the Brier score."""
    correct = right(SKEWED)
    figures = evaluate([METRICS.build(dict(type='RMSCalibrationError', bin_size=1))], make_confident(SKEWED, correct))
    assert (figures['calibration/rms'] / 100) ** 2 == pytest.approx(brier_score_loss(correct, SKEWED), abs=1e-12)


@pytest.mark.parametrize('metric', ALL, ids=lambda metric: metric[0])
@pytest.mark.parametrize('value', [0, -1, 1.5, '15'])
def test_no_bins_are_refused(metric, value):
    with pytest.raises(ValueError, match=f'{metric[2]} expects an int of at least 1, found'):
        METRICS.build({'type': metric[1], metric[2]: value})
