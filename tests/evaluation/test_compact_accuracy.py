# Copyright (c) MMMixPro contributors.
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.evaluation import Accuracy
from mmpretrain.structures import DataSample

from mmmixpro.evaluation import CompactAccuracy


def samples(scores, labels):
    return [
        DataSample().set_gt_label(int(label)).set_pred_score(score) for score, label in zip(scores, labels, strict=True)
    ]


@pytest.mark.parametrize('topk', [1, (1, 5), (3,)])
@pytest.mark.parametrize('case', ['random', 'ties', 'zeros', 'right', 'wrong'])
def test_the_figures_of_mmpretrain(topk, case):
    num = 101
    scores, labels = torch.rand(num, 7), torch.arange(num) % 7
    if case == 'ties':
        scores = (2 * scores).round() / 2
    elif case == 'zeros':
        scores = torch.zeros(num, 7)
    elif case in ('right', 'wrong'):
        scores = torch.nn.functional.one_hot((labels + (case == 'wrong')) % 7, 7).float()
    batches = [samples(part, label) for part, label in zip(scores.split(16), labels.split(16), strict=True)]
    results = []
    for metric in (Accuracy(topk=topk), CompactAccuracy(topk=topk)):
        evaluator = Evaluator([metric])
        for batch in batches:
            evaluator.process(batch)
        # The last one would be a repeated sample of another rank's.
        results.append(evaluator.evaluate(num - 1))
    assert results[0] == results[1]


def test_a_byte_an_image():
    metric = CompactAccuracy()
    metric.process(None, [sample.to_dict() for sample in samples(torch.rand(50, 1000), torch.arange(50))])
    assert sum(rows.nbytes for rows in metric.results) == 50


def test_more_classes_than_there_are():
    metric = CompactAccuracy(topk=(1, 5))
    with pytest.raises(ValueError, match=r'topk=\(1, 5\) asks for more classes than the 3'):
        metric.process(None, [sample.to_dict() for sample in samples(torch.rand(2, 3), [0, 1])])


@pytest.mark.parametrize('label', [-1, 7])
def test_labels_of_another_set(label):
    with pytest.raises(ValueError, match=rf'expected gt_label out of 7 classes between 0 and 6, found \[{label}\]'):
        CompactAccuracy().process(None, [sample.to_dict() for sample in samples(torch.rand(2, 7), [0, label])])
