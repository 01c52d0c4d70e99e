# Copyright (c) MMMixPro contributors.
import sys

import numpy as np
import pytest
import torch
from mmpretrain.registry import METRICS
from oracles import robustness as oracle
from torchmetrics.functional.classification import binary_average_precision

rng = np.random.RandomState(0)
SUBSET = [0, 2, 3]
# Two classes are not in the subset; the softmax over them would rank the samples otherwise.
SCORES = torch.as_tensor(rng.randn(120, 5) * 2).softmax(1)
OOD = (rng.rand(120) < 0.3).tolist()


@pytest.fixture
def aupr(make_samples, evaluate):
    def aupr(scores, ood, **kwargs):
        samples = make_samples(scores, [0] * len(ood), ood=ood)
        metric = METRICS.build(dict(type='OODAUPR', subset=True, **kwargs))
        return evaluate([metric], samples, subset=SUBSET)

    return aupr


def confidences(scores):
    return np.array([oracle.most_likely(row, SUBSET)[0] for row in np.asarray(scores).tolist()])


def test_against_the_oracle_and_torchmetrics(aupr):
    figure = aupr(SCORES, OOD)['ood/aupr']
    score = -confidences(SCORES)
    assert figure == pytest.approx(100 * oracle.aupr(score, OOD), abs=1e-9)
    # It wants scores in [0, 1].
    theirs = binary_average_precision(torch.as_tensor(1 + score), torch.as_tensor(OOD).long(), thresholds=None)
    assert figure == pytest.approx(100 * theirs.item(), abs=1e-4)
    assert figure != pytest.approx(100 * oracle.aupr(-SCORES.max(1).values.numpy(), OOD), abs=0.1)


def test_by_hand(aupr):
    """Least confident first: out, in, out, in. Precision 1 and 2/3 where recall gains a half each."""
    confident = torch.tensor([[0.5, 0, 0.5, 0, 0], [0.6, 0, 0.4, 0, 0], [0.7, 0, 0.3, 0, 0], [0.8, 0, 0.2, 0, 0]])
    assert aupr(confident, [True, False, True, False])['ood/aupr'] == pytest.approx(100 * (1 / 2 + 2 / 3 / 2))


@pytest.mark.parametrize('ood', [OOD, sorted(OOD), sorted(OOD, reverse=True)], ids=['mixed', 'last', 'first'])
def test_ties(aupr, ood):
    """Images of equal confidence are found together, whichever comes first."""
    levels = torch.eye(5, dtype=torch.float64)[0] * torch.linspace(0.5, 1, 4, dtype=torch.float64)[:, None]
    levels[:, 2] = 1 - levels[:, 0]
    scores = levels[torch.arange(120) % 4]
    assert aupr(scores, ood)['ood/aupr'] == pytest.approx(100 * oracle.aupr(-confidences(scores), ood), abs=1e-9)


def test_one_confidence_gives_the_share(aupr):
    assert aupr(torch.full((120, 5), 0.2), OOD)['ood/aupr'] == pytest.approx(100 * np.mean(OOD))


def test_the_order_of_samples_does_not_matter(aupr):
    scores = SCORES[torch.arange(120) // 2]
    orders = [np.argsort(OOD), np.argsort(np.invert(OOD)), np.random.permutation(120)]
    assert len({aupr(scores[order], np.array(OOD)[order].tolist())['ood/aupr'] for order in orders}) == 1


def test_no_labels_are_needed(make_samples, evaluate):
    samples = make_samples(SCORES, [0] * 120, ood=OOD)
    for sample in samples:
        del sample.gt_label
    assert evaluate([METRICS.build(dict(type='OODAUPR', prefix='imagenet-o'))], samples).keys() == {'imagenet-o/aupr'}


@pytest.mark.parametrize(('ood', 'found'), [(True, '0 in and 120 out'), (False, '120 in and 0 out')])
def test_one_kind_alone_is_refused(aupr, ood, found):
    with pytest.raises(ValueError, match=f'expects images in and out of distribution, found {found}'):
        aupr(SCORES, [ood] * 120)


def test_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.metrics', None)
    with pytest.raises(ImportError, match='pip install scikit-learn'):
        METRICS.build(dict(type='OODAUPR'))
