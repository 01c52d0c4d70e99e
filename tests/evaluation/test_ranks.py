# Copyright (c) MMMixPro contributors.
"""Two processes that share a dataset, as mmengine's samplers share it, report what one does."""

import json
import os

import mmengine.dist
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmpretrain.registry import METRICS
from mmpretrain.structures import DataSample
from torch import distributed, multiprocessing

import mmmixpro  # noqa: F401 (registers everything)

SUBSET = [0, 2, 3, 5]
CONFIDENCE = [
    'ExpectedCalibrationError', 'EqualMassCalibrationError', 'RMSCalibrationError', 'HendrycksRMSCalibrationError',
    'AURRA',
]  # fmt: skip
BASELINE = dict(fog=60.0, snow=80.0)
# Odd sets get a sample twice; of 1 and 2, a rank has nothing of its own, or one sample; 257 makes batches of 9 uneven.
SIZES = [1, 2, 101, 257, 1000]


def metrics(size, collect_device):
    """All of them, but what is not defined for one sample."""
    cfgs = [dict(type=cls, subset=subset) for cls in CONFIDENCE for subset in (False, True)]
    cfgs += [dict(type='OODAUPR', subset=True), dict(type='CorruptionError', baseline=BASELINE)]
    cfgs += [dict(type='SubsetAccuracy'), dict(type='CompactAccuracy', topk=(1, 3))]
    if size == 1:
        cfgs = [cfg for cfg in cfgs if cfg['type'] != 'OODAUPR']
    return [METRICS.build(dict(cfg, prefix=str(i), collect_device=collect_device)) for i, cfg in enumerate(cfgs)]


def dataset(size):
    """The first samples are all wrong and sure: counted twice, or in place of the last, they show."""
    draw = torch.Generator().manual_seed(size)
    scores = (torch.randn(size, 6, generator=draw) * 2).softmax(1)
    # Ties, of which the reference's sort keeps what the order of the samples gives it.
    scores[size // 2 :] = scores[size // 2 :].round(decimals=1) + 1e-3
    scores[size // 2 :] /= scores[size // 2 :].sum(1, keepdim=True)
    labels = torch.tensor(SUBSET)[torch.randint(4, (size,), generator=draw)]
    scores[:3], labels[:3] = torch.tensor([0.99, 0.01, 0, 0, 0, 0]), 5
    kinds = [(name, severity) for name in BASELINE for severity in range(1, 6)]
    samples = []
    for i, (score, label) in enumerate(zip(scores, labels, strict=True)):
        meta = dict(ood=i % 3 == 1, corruption=kinds[i * 10 // size][0], severity=kinds[i * 10 // size][1])
        samples.append(DataSample(metainfo=meta).set_pred_score(score).set_gt_label(label))
    return samples


def evaluate(size, collect_device='cpu'):
    """What a test loop does with the samples of this rank."""
    samples = dataset(size)
    mine = [samples[index] for index in DefaultSampler(samples, shuffle=False)]
    evaluator = Evaluator(metrics(size, collect_device))
    evaluator.dataset_meta = dict(subset=SUBSET)
    for start in range(0, len(mine), 9):
        evaluator.process(mine[start : start + 9])
    return len(mine), evaluator.evaluate(size)


def work(rank, folder):
    os.chdir(folder)  # where mmengine puts what the ranks exchange
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    assert mmengine.dist.get_dist_info() == (rank, 2)
    figures = {f'{size} {device}': evaluate(size, device) for size in SIZES for device in ('cpu', 'gpu')}
    with open(f'{folder}/{rank}.json', 'w') as file:
        json.dump(figures, file)
    distributed.destroy_process_group()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [json.loads((folder / f'{rank}.json').read_text()) for rank in (0, 1)]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('collect_device', ['cpu', 'gpu'])
def test_two_ranks_report_what_one_does(size, collect_device, ranks):
    num, expected = evaluate(size)
    assert num == size
    assert len(expected) > 8
    for rank in ranks:
        num, figures = rank[f'{size} {collect_device}']
        assert num == (size + 1) // 2
        assert figures == expected


def test_samples_come_back_in_their_order():
    """Also where ranks have unequally many."""
    metric = METRICS.build(dict(type='AURRA'))
    metric.summarize = lambda rows: rows['confidence'].tolist()
    for world_size in (1, 2, 3):
        parts = []
        for rank in range(world_size):
            part = torch.arange(7.0)[rank::world_size].numpy()
            rows = torch.zeros(len(part)).numpy().astype(metric.row)
            rows['confidence'] = part
            parts.append(rows)
        assert metric.compute_metrics(parts) == list(range(7))
