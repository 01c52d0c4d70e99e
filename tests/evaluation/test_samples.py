# Copyright (c) MMMixPro contributors.
"""What every metric asks of the samples, and what it keeps of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.registry import METRICS
from torch._subclasses.fake_tensor import FakeTensorMode

SUBSET = [0, 1, 3]
CONFIDENCE = [
    'ExpectedCalibrationError', 'EqualMassCalibrationError', 'RMSCalibrationError', 'HendrycksRMSCalibrationError',
    'AURRA',
]  # fmt: skip
OF_A_SUBSET = [dict(type=cls, subset=True) for cls in [*CONFIDENCE, 'OODAUPR']] + [dict(type='SubsetAccuracy')]
ALL = [
    *(dict(type=cls) for cls in [*CONFIDENCE, 'CompactAccuracy']),
    dict(type='CorruptionError', baseline=None),
    *OF_A_SUBSET,
]


def name(cfg):
    return cfg['type'] + ('_subset' if cfg.get('subset') else '')


@pytest.fixture
def samples(make_samples):
    meta = dict(
        ood=[False, True] * 3, corruption=['fog'] * 6, severity=[1] * 6, img_path=[f'{i}.png' for i in range(6)]
    )
    return make_samples(torch.randn(6, 4).softmax(1), [0, 1, 3] * 2, **meta)


@pytest.fixture
def process():
    def process(cfg, samples, meta=dict(subset=SUBSET)):
        evaluator = Evaluator([METRICS.build(cfg)])
        evaluator.dataset_meta = meta
        evaluator.process(samples)
        return evaluator.metrics[0]

    return process


@pytest.mark.parametrize('cfg', ALL, ids=name)
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -0.1, 1.1])
def test_scores_that_are_no_probabilities(cfg, value, samples, process):
    samples[4].pred_score[1] = value
    with pytest.raises(ValueError, match=r'expected pred_score between 0 and 1, found \S+ to \S+ for 4.png: '):
        process(cfg, samples)


@pytest.mark.parametrize('cfg', ALL, ids=name)
def test_no_scores(cfg, samples, process):
    del samples[4].pred_score
    with pytest.raises(ValueError, match="expected 'pred_score' in each data sample, found .*gt_label.* for 4.png: "):
        process(cfg, samples)


@pytest.mark.parametrize('cfg', [cfg for cfg in ALL if cfg['type'] != 'OODAUPR'], ids=name)
def test_labels(cfg, samples, process):
    samples[4].set_gt_label(4)
    with pytest.raises(ValueError, match=r'expected gt_label out of . classes between 0 and 3, found \[4\]'):
        process(cfg, samples)
    samples[4].set_gt_label([1, 2])
    with pytest.raises(ValueError, match='expected one gt_label per sample, found 7 of 6 samples'):
        process(cfg, samples)
    del samples[4].gt_label
    with pytest.raises(ValueError, match="expected 'gt_label' in each data sample, found .*pred_score.* for 4.png: "):
        process(cfg, samples)


@pytest.mark.parametrize(
    ('cls', 'key'), [('OODAUPR', 'ood'), ('CorruptionError', 'corruption'), ('CorruptionError', 'severity')]
)
def test_no_notes_of_the_dataset(cls, key, samples, process):
    delattr(samples[4], key)
    with pytest.raises(ValueError, match=f"expected '{key}' in each data sample, found .* for 4.png: use a dataset"):
        process(dict(type=cls), samples)


@pytest.mark.parametrize('cfg', OF_A_SUBSET, ids=name)
@pytest.mark.parametrize('meta', [None, {}, dict(classes=['a', 'b', 'c', 'd'])])
def test_no_subset(cfg, meta, samples, process):
    with pytest.raises(ValueError, match="expected the classes of the dataset under 'subset' in its metainfo, found"):
        process(cfg, samples, meta)


@pytest.mark.parametrize('cfg', OF_A_SUBSET, ids=name)
@pytest.mark.parametrize('subset', [[], [0, 4], [-1, 0], [1, 1]])
def test_subsets_of_other_classes(cfg, subset, samples, process):
    with pytest.raises(ValueError, match="expected different indices of the model's 4 classes under 'subset'"):
        process(cfg, samples, dict(subset=subset))


@pytest.mark.parametrize('cfg', [cfg for cfg in OF_A_SUBSET if cfg['type'] != 'OODAUPR'], ids=name)
def test_labels_that_are_not_of_the_subset(cfg, samples, process):
    samples[4].set_gt_label(2)
    with pytest.raises(ValueError, match=r'expected gt_label out of 3 classes between 0 and 3, found \[2\]'):
        process(cfg, samples)


@pytest.mark.parametrize('cfg', OF_A_SUBSET, ids=name)
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_scores_of_the_subset_that_all_vanish(cfg, dtype, samples, process):
    """A class beyond the subset is so likely that the others are 0 in this precision."""
    for sample in samples:
        logits = torch.tensor([0.0, 1.0, 1000.0, 2.0])
        sample.set_pred_score(logits.softmax(0).to(dtype))
    with pytest.raises(ValueError, match='above 0 for some class of the subset, found only 0 for 0.png: let the head'):
        process(cfg, samples)


def test_the_least_score_above_0_is_enough(samples, process):
    for sample in samples:
        sample.set_pred_score(torch.tensor([0.0, 1e-45, 1.0, 0.0]))
    rows = process(dict(type='RMSCalibrationError', subset=True), samples).results[0]
    assert rows['confidence'].tolist() == [1.0] * 6
    assert rows['correct'].tolist() == [False, True, False] * 2


@pytest.mark.parametrize('cfg', ALL, ids=name)
def test_no_samples(cfg):
    with pytest.raises(ValueError, match=f'{cfg["type"]} expects samples, found none'):
        METRICS.build(cfg).evaluate(0)


@pytest.mark.parametrize('cfg', ALL, ids=name)
def test_few_bytes_of_a_sample_are_kept(cfg, samples, process):
    metric = process(cfg, samples * 50)
    (rows,) = metric.results
    assert isinstance(rows, np.ndarray)
    assert not rows.dtype.hasobject
    assert len(rows) == 300
    assert rows.itemsize <= 34
    assert rows.base is None


@pytest.mark.parametrize('cfg', ALL, ids=name)
def test_one_transfer_per_batch(cfg, monkeypatch):
    """Whatever else reads a value back from the device raises on fake tensors."""
    transfers = []

    def cpu(tensor):
        assert tensor.device.type == 'cuda'
        transfers.append(tensor)
        return SimpleNamespace(numpy=lambda: np.zeros(tensor.shape))

    metric = METRICS.build(cfg)
    metric.dataset_meta = dict(subset=SUBSET)
    monkeypatch.setattr(torch.Tensor, 'cpu', cpu)
    with FakeTensorMode():
        scores, labels = torch.rand(6, 4, device='cuda'), torch.zeros(6, 1, dtype=torch.int64, device='cuda')
        samples = [
            dict(pred_score=score, gt_label=label, ood=True, corruption='fog', severity=1)
            for score, label in zip(scores, labels, strict=True)
        ]
        metric.process(None, samples)
    assert len(transfers) == 1
    assert len(metric.results[0]) == 6
