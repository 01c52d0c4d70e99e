# Copyright (c) MMMixPro contributors.
import numpy as np
import pytest
import torch
from mmpretrain.evaluation import Accuracy
from mmpretrain.registry import METRICS
from oracles import robustness as oracle
from torchmetrics.functional.classification import multiclass_accuracy

rng = np.random.RandomState(0)
SUBSET = [1, 4, 5, 9]
LOGITS = rng.randn(150, 12) * 3
LABELS = rng.choice(SUBSET, 150)
# Some right among all classes, more so among those of the subset.
LOGITS[np.arange(150), LABELS] += 2
SUBSET_METRICS = [
    ('ExpectedCalibrationError', 'ece', 15),
    ('EqualMassCalibrationError', 'ece_mass', 15),
    ('RMSCalibrationError', 'rms', 100),
    ('HendrycksRMSCalibrationError', 'rms_hendrycks', 20),
]


def softmax(logits, dtype=torch.float64):
    return torch.as_tensor(logits).softmax(1).to(dtype)


def test_accuracy(make_samples, evaluate):
    scores = softmax(LOGITS)
    figures = evaluate([METRICS.build(dict(type='SubsetAccuracy'))], make_samples(scores, LABELS), subset=SUBSET)
    among = [oracle.most_likely(row, SUBSET)[1] == label for row, label in zip(scores.tolist(), LABELS, strict=True)]
    any_class = [int(np.argmax(row)) == label for row, label in zip(LOGITS, LABELS, strict=True)]
    assert figures == {
        'accuracy/top1': pytest.approx(100 * np.mean(among)),
        'accuracy/top1_all': pytest.approx(100 * np.mean(any_class)),
    }
    assert 10 < figures['accuracy/top1_all'] < figures['accuracy/top1'] < 95

    target = torch.tensor(LABELS)
    theirs = multiclass_accuracy(scores, target, num_classes=12, average='micro')
    assert figures['accuracy/top1_all'] == pytest.approx(100 * theirs.item())
    assert figures['accuracy/top1_all'] == pytest.approx(Accuracy.calculate(scores, target)[0][0].item())
    places = torch.tensor([SUBSET.index(label) for label in LABELS])
    theirs = multiclass_accuracy(scores[:, SUBSET], places, num_classes=4, average='micro')
    assert figures['accuracy/top1'] == pytest.approx(100 * theirs.item())


def test_the_subset_is_a_softmax_of_its_own(make_samples, evaluate):
    scores, alone = softmax(LOGITS, torch.float32), softmax(LOGITS[:, SUBSET])
    kept = [oracle.most_likely(row) for row in alone.tolist()]
    confidence = np.array([c for c, _ in kept])
    correct = np.array([SUBSET[place] == label for (_, place), label in zip(kept, LABELS, strict=True)])
    for cls, key, value in SUBSET_METRICS:
        option = 'num_bins' if 'ece' in key else 'bin_size'
        metric = METRICS.build({'type': cls, 'subset': True, option: value})
        figures = evaluate([metric], make_samples(scores, LABELS), subset=SUBSET)
        expected = getattr(oracle, key)(confidence, correct, value)
        assert figures == {f'calibration/{key}': pytest.approx(100 * expected, abs=1e-4)}
    figures = evaluate([METRICS.build(dict(type='AURRA', subset=True))], make_samples(scores, LABELS), subset=SUBSET)
    expected = oracle.aurra(correct[np.argsort(-confidence)])
    assert figures == {'calibration/aurra': pytest.approx(100 * expected, abs=1e-4)}


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('subset', [None, SUBSET, [7]])
def test_every_precision(dtype, subset, make_samples, evaluate):
    """Half precision is summed in float32: what the scores say, to the rounding of float32."""
    scores = softmax(LOGITS, dtype)
    labels = LABELS if subset is None else np.random.choice(subset, 150)
    kept = [oracle.most_likely(row, subset) for row in scores.double().tolist()]
    confidence = np.array([c for c, _ in kept])
    correct = np.array([label == true for (_, label), true in zip(kept, labels, strict=True)])
    metrics = [
        dict(type='RMSCalibrationError', bin_size=40),
        dict(type='EqualMassCalibrationError'),
        dict(type='AURRA'),
    ]
    metrics = [METRICS.build(dict(cfg, subset=subset is not None)) for cfg in metrics]
    figures = evaluate(metrics, make_samples(scores, labels), subset=subset)
    assert figures == {
        'calibration/rms': pytest.approx(100 * oracle.rms(confidence, correct, 40), abs=1e-3),
        'calibration/ece_mass': pytest.approx(100 * oracle.ece_mass(confidence, correct, 15), abs=1e-3),
        'calibration/aurra': pytest.approx(100 * oracle.aurra_with_equals(confidence, correct), abs=1e-3),
    }


def test_a_model_of_one_class(make_samples, evaluate):
    metrics = [METRICS.build(dict(type=cls)) for cls in ('SubsetAccuracy', 'ExpectedCalibrationError', 'AURRA')]
    figures = evaluate(metrics, make_samples(np.ones((5, 1)), [0] * 5), subset=[0])
    assert figures == {
        'accuracy/top1': 100, 'accuracy/top1_all': 100, 'calibration/ece': 0, 'calibration/aurra': 100
    }  # fmt: skip


def test_of_equal_scores_the_first_class_counts(make_samples, evaluate):
    samples = make_samples([[0.2, 0.4, 0.4], [0.3, 0.3, 0.4]], [1, 0])
    figures = evaluate([METRICS.build(dict(type='SubsetAccuracy'))], samples, subset=[0, 1])
    assert figures == {'accuracy/top1': 100, 'accuracy/top1_all': 50}
