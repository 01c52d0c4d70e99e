# Copyright (c) MMMixPro contributors.
"""Sets of the size of ImageNet and ImageNet-C, in a process of its own for its memory; times are of one core."""

import json
import subprocess
import sys

import pytest

MEASURE = """
import json, re, sys, time
from pathlib import Path
import numpy as np, torch
from mmpretrain.registry import METRICS
import mmmixpro

torch.set_num_threads(1)
num, batch, classes, cfgs, copies = json.loads(sys.argv[1])
metrics = [METRICS.build(cfg) for cfg in cfgs]
for metric in metrics:
    metric.dataset_meta = dict(subset=list(range(0, classes, 5)))
names = ['fog', 'snow', 'frost']
meta = [dict(ood=i % 9 == 0, corruption=names[i % 3], severity=1 + i % 5) for i in range(batch)]
label = torch.arange(batch)[:, None] % (classes // 5) * 5

def memory():
    # Of this process alone; getrusage's maximum is that of the test's own process, if it is larger.
    return 1024 * int(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])

before, draw, process = memory(), 0, 0
for start in range(0, num, batch):
    begin = time.process_time()
    scores = (torch.randn(batch, classes) * 3).softmax(1)
    samples = [dict(pred_score=s, gt_label=t, **m) for s, t, m in zip(scores, label, meta)]
    middle = time.process_time()
    for metric in metrics:
        metric.process(None, samples)
    draw += middle - begin
    process += time.process_time() - middle
kept = sum(rows.nbytes for metric in metrics for rows in metric.results)
for metric in metrics:
    metric.results *= copies
begin = time.process_time()
figures = {}
for metric in metrics:
    figures.update(metric.evaluate(num * copies))
end = time.process_time() - begin
print(json.dumps(dict(draw=draw, process=process, evaluate=end, kept=kept, peak=memory(), extra=memory() - before,
                      figures=len(figures))))
"""
CONFIDENCE = [
    'ExpectedCalibrationError', 'EqualMassCalibrationError', 'RMSCalibrationError', 'HendrycksRMSCalibrationError',
    'AURRA', 'OODAUPR',
]  # fmt: skip


def measure(num, batch, classes, cfgs, copies=1):
    code = [sys.executable, '-c', MEASURE, json.dumps([num, batch, classes, cfgs, copies])]
    run = subprocess.run(code, capture_output=True, text=True, check=True)
    figures = json.loads(run.stdout.splitlines()[-1])
    print(figures)
    return figures


@pytest.mark.slow
def test_imagenet():
    """50,000 x 1000 scores through all metrics at once."""
    cfgs = [dict(type=cls, subset=subset, prefix=f'{cls}{subset}') for cls in CONFIDENCE for subset in (False, True)]
    cfgs += [dict(type='SubsetAccuracy'), dict(type='CorruptionError', baseline=None)]
    figures = measure(50_000, 250, 1000, cfgs)
    assert figures['figures'] == 12 + 2 + 4
    assert figures['kept'] == 50_000 * (12 * 9 + 2 + 34)
    assert figures['peak'] < 1e9
    assert figures['draw'] + figures['process'] + figures['evaluate'] < 30


@pytest.mark.slow
@pytest.mark.parametrize('cls', ['CorruptionError', 'RMSCalibrationError', 'AURRA', 'OODAUPR'])
def test_imagenet_c(cls):
    """The rows of 3,750,000 samples; scores of a few classes are enough for these."""
    figures = measure(37_500, 250, 10, [dict(type=cls)], copies=100)
    assert figures['kept'] * 100 <= 3_750_000 * 34
    assert figures['extra'] < 1e9
    assert figures['evaluate'] < 30
