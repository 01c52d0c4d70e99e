# Copyright (c) MMMixPro contributors.
import re
from xml.etree import ElementTree

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend
from torch.utils.data import DataLoader

from mmmixpro.visualization import curve, plot_curves, read_scalars
from mmmixpro.visualization.report import write_report


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode):
        return dict(loss=(self.weight - 1).square().mean()) if mode == 'loss' else [self.weight]


class Weight(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(float(data_samples[0]))

    def compute_metrics(self, results):
        return dict(weight=results[0])


@pytest.fixture
def run(tmp_path):
    """A real run of 2 epochs of 3 iterations."""

    def run(train_cfg, log_by_epoch):
        data = DataLoader([dict(inputs=torch.zeros(1))] * 3)
        Runner(
            Line(),
            work_dir=str(tmp_path),
            train_dataloader=data,
            train_cfg=train_cfg,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            val_dataloader=data,
            val_cfg=dict(),
            val_evaluator=[Weight()],
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=log_by_epoch)),
            visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
            default_scope=None,
            experiment_name=tmp_path.name,
            log_level='ERROR',
        ).train()
        return tmp_path

    return run


def stage(work_dir):
    scalars = read_scalars(work_dir)
    curves = dict(curve=curve(scalars, 'weight'), loss=curve(scalars, 'loss'))
    return dict(title='Line', group='pretraining', metric='weight', init=None, **curves)


def texts(svg):
    return [''.join(text.itertext()) for text in ElementTree.fromstring(svg).iter() if text.tag.endswith('text')]


def plots(stages):
    return re.findall(r'<svg.*?</svg>', plot_curves(stages), re.DOTALL)


def test_run_by_epoch(run):
    line = stage(run(dict(by_epoch=True, max_epochs=2), True))
    assert [step for step, _ in line['loss']] == [1, 2, 3, 4, 5, 6]
    weight = [1 - 0.8**3, 1 - 0.8**6]
    assert line['curve'] == [[1, pytest.approx(weight[0])], [2, pytest.approx(weight[1])]]
    metric, loss = plots([line])
    assert {'epoch', 'Pretraining: weight', 'Line'} <= set(texts(metric))
    assert {'iteration', 'Pretraining: training loss', 'Line'} <= set(texts(loss))


def test_run_by_iteration(run):
    line = stage(run(dict(by_epoch=False, max_iters=6, val_interval=2), False))
    assert [step for step, _ in line['curve']] == [2, 4, 6]
    assert 'iteration' in texts(plots([line])[0])


def test_newest_run(tmp_path):
    for time, loss in (('20250101_120000', 1.0), ('20260101_000000', 2.0), ('20251231_235959', 3.0)):
        LocalVisBackend(str(tmp_path / time / 'vis_data')).add_scalars(dict(loss=loss), step=7)
    # Testing leaves a folder without scalars.
    (tmp_path / '20270101_000000' / 'vis_data').mkdir(parents=True)
    assert read_scalars(tmp_path) == [dict(loss=2.0, step=7)]


def test_diverged_run(tmp_path):
    backend = LocalVisBackend(str(tmp_path / '20250101_120000' / 'vis_data'))
    for step, loss in enumerate([1.0, float('nan'), float('inf'), 2.0], 1):
        backend.add_scalars(dict(loss=loss), step=step)
    line = stage(tmp_path)
    assert len(line['loss']) == 4
    assert len(plots([line])) == 1


def test_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Expected a training log .* in '.*', found none"):
        read_scalars(tmp_path)


@pytest.fixture
def stages():
    def stages(group, metric, inits):
        logs = dict(curve=[[1, 10.0], [2, 20.0]], loss=[[10, 2.0], [20, 1.0]])
        return [dict(title=f'{group} {init}', group=group, metric=metric, init=init, **logs) for init in inits]

    return [
        *stages('pretraining', 'accuracy/top1', [None, None]),
        *stages('segmentation', 'mIoU', ['MixPro', 'scratch']),
        *stages('detection', 'coco/bbox_mAP', ['MixPro', 'scratch']),
    ]


def test_groups_share_their_plots(stages):
    drawn = [texts(svg) for svg in plots(stages)]
    assert [next(text for text in svg if ': ' in text) for svg in drawn] == [
        'Pretraining: top-1 accuracy (%)',
        'Pretraining: training loss',
        'Segmentation: mIoU (%)',
        'Segmentation: training loss',
        'Detection: box AP',
        'Detection: training loss',
    ]
    assert 'pretraining None' in drawn[0]
    for svg in drawn[2:]:
        assert {'from the MixPro checkpoint', 'from scratch'} <= set(svg)


def test_names_in_plots_are_unique(stages):
    # In a page a clip path is found by its name, in whatever plot it stands first.
    svg = plot_curves(stages)
    names = re.findall(r'\bid="([^"]*)"', svg)
    assert len(set(names)) == len(names) > 0
    assert set(re.findall(r'url\(#([^)]*)\)', svg)) <= set(names)


def test_titles_are_no_markup(stages):
    stages[0]['title'] = '<script> $x_1$ &'
    assert '<script> $x_1$ &' in texts(plots(stages)[0])


def test_many_runs_and_gaps(stages):
    # More runs than looks; one that never validated.
    stages = [dict(stages[0], title=str(i)) for i in range(5)]
    stages[1]['curve'] = []
    metric, loss = (texts(svg) for svg in plots(stages))
    assert [text for text in metric if text in '01234'][-4:] == ['0', '2', '3', '4']
    assert [text for text in loss if text in '01234'][-5:] == ['0', '1', '2', '3', '4']


def test_the_page_holds_the_plots(stages, tmp_path):
    final = dict(config='c.py', seconds=1.0, final={}, work_dir='w')
    results = dict(data='d', command='c', seed=0, cores=2, versions={}, seconds=1.0, table=[])
    results['stages'] = [stage | final for stage in stages]
    write_report(tmp_path / 'page.html', results, [])
    assert plot_curves(stages) in (tmp_path / 'page.html').read_text()
