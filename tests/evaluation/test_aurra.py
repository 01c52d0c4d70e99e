# Copyright (c) MMMixPro contributors.
import numpy as np
import pytest
from mmpretrain.registry import METRICS
from oracles import robustness as oracle

rng = np.random.RandomState(0)
CONFIDENCE = rng.rand(200)
CORRECT = rng.rand(200) < CONFIDENCE


@pytest.fixture
def aurra(make_confident, evaluate):
    def aurra(confidence, correct):
        figures = evaluate([METRICS.build(dict(type='AURRA'))], make_confident(confidence, correct))
        assert list(figures) == ['calibration/aurra']
        return figures['calibration/aurra'] / 100

    return aurra


def test_by_hand(aurra):
    # Accuracies of the first one, two, three and four: 1, 1/2, 2/3, 2/4.
    assert aurra([0.2, 0.9, 0.6, 0.7], [False, True, True, False]) == pytest.approx((1 + 1 / 2 + 2 / 3 + 2 / 4) / 4)


def test_without_ties_against_the_oracle(aurra):
    order = np.argsort(-CONFIDENCE)
    assert aurra(CONFIDENCE, CORRECT) == pytest.approx(oracle.aurra(CORRECT[order]), abs=1e-12)


def test_what_the_original_code_gives():
    """Of its `aurra`, run on the same draws in turn."""
    figures = {
        100: '0x1.2ad71ae31e3e5p-1',
        250: '0x1.24135796dc61bp-1',
        1000: '0x1.3ec222290a450p-1',
        1001: '0x1.368bbcbdd584dp-1',
    }
    draws = np.random.RandomState(42)
    for num, figure in figures.items():
        confidence = draws.rand(num)
        correct = draws.rand(num) < confidence**2
        expected = pytest.approx(float.fromhex(figure), rel=1e-14, abs=0)
        assert METRICS.build(dict(type='AURRA')).calculate(confidence, correct) == expected, num


def test_ties_give_the_mean_over_all_their_orders(aurra):
    levels = np.array([0.0, 0.5, 1.0])
    for num in range(1, 7):
        for _ in range(5):
            confidence, correct = levels[np.random.randint(0, 3, num)], np.random.rand(num) < 0.5
            expected = oracle.aurra_of_all_orders(confidence, correct)
            assert oracle.aurra_with_equals(confidence, correct) == pytest.approx(expected)
            assert aurra(confidence, correct) == pytest.approx(expected)


@pytest.mark.parametrize('decimals', [0, 1, 2])
def test_many_ties(aurra, decimals):
    confidence = np.round(CONFIDENCE, decimals)
    assert aurra(confidence, CORRECT) == pytest.approx(oracle.aurra_with_equals(confidence, CORRECT), abs=1e-12)


def test_one_value_gives_the_accuracy(aurra):
    assert aurra(np.full(200, 0.3), CORRECT) == pytest.approx(CORRECT.mean())


def test_all_right_and_all_wrong(aurra):
    assert aurra(CONFIDENCE, np.ones(200, dtype=bool)) == 1
    assert aurra(CONFIDENCE, np.zeros(200, dtype=bool)) == 0


def test_the_order_of_samples_does_not_matter(aurra):
    confidence = np.round(CONFIDENCE, 1)
    orders = [np.argsort(CORRECT), np.argsort(~CORRECT), np.random.permutation(200)]
    assert len({aurra(confidence[order], CORRECT[order]) for order in orders}) == 1
