# Copyright (c) MMMixPro contributors.
import json

import pytest
from mmengine.config import Config

from mmmixpro.visualization.curves import read_run
from mmmixpro.visualization.panels import plot_panels
from mmmixpro.visualization.runs import (
    ablation_panel,
    beta,
    config_of,
    final_error,
    generalization_panels,
    mask_scale,
)


def train(step, epoch, loss):
    return dict(loss=loss, epoch=epoch, step=step)


def val(epoch, top1):
    return {'accuracy/top1': top1, 'step': epoch}


FIRST = [train(4, 1, 3.0), train(8, 1, 2.0), val(1, 10.0), train(12, 2, 1.0), train(16, 2, 1.5), val(2, 40.0)]


@pytest.fixture
def log(tmp_path):
    def log(lines, stamp='20250101_000000', run='run'):
        path = tmp_path / run / stamp / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(''.join(json.dumps(entry) + '\n' for entry in lines))
        return tmp_path / run

    return log


def test_a_resumed_run_is_one(log):
    """Killed after its second epoch's first line, resumed from the end of the first."""
    log(FIRST[:4])
    run = log([train(12, 2, 0.9), train(16, 2, 1.4), val(2, 45.0)], '20250102_000000')
    training, validation = read_run(run)
    assert training == [FIRST[0], FIRST[1], train(12, 2, 0.9), train(16, 2, 1.4)]
    assert validation == [val(1, 10.0), val(2, 45.0)]


def test_loss_and_error_of_each_epoch(log):
    """Validation comes at the same step of an epoch as training at an iteration; neither hides the other."""
    loss, error = generalization_panels({'one': log(FIRST), 'two': log(FIRST[:3], run='other')})
    assert loss.lines == {'one': [(1, 2.5), (2, 1.25)], 'two': [(1, 2.5)]}
    assert error.lines == {'one': [(1, 90.0), (2, 60.0)], 'two': [(1, 90.0)]}
    figure = plot_panels([loss, error])
    drawn = [[line.get_xydata().tolist() for line in ax.lines] for ax in figure.axes]
    assert drawn == [[[[1, 2.5], [2, 1.25]], [[1, 2.5]]], [[[1, 90.0], [2, 60.0]], [[1, 90.0]]]]
    colours = [[line.get_color() for line in ax.lines] for ax in figure.axes]
    assert colours[0] == colours[1] and len(set(colours[0])) == 2
    assert [ax.get_title(loc='left') for ax in figure.axes] == ['training loss', 'top-1 error (%)']
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['one', 'two']


def test_what_is_missing_is_said(log, tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected a training log .* in 'nowhere', found none"):
        generalization_panels({'one': 'nowhere'})
    with pytest.raises(ValueError, match='Expected validations with accuracy/top1 in'):
        generalization_panels({'one': log(FIRST[:2])})
    with pytest.raises(ValueError, match='found one by iteration'):
        generalization_panels({'one': log([dict(loss=1.0, step=4)], run='iterations')})


def test_error_is_that_of_the_last_validation_or_of_a_test(log, tmp_path):
    run = log(FIRST)
    assert final_error(run) == 60.0
    assert final_error(run / '20250101_000000/vis_data/scalars.json') == 60.0
    path = tmp_path / 'metrics.json'
    path.write_text(json.dumps({'accuracy/top1': 81.3}))
    assert final_error(path) == pytest.approx(18.7)
    path.write_text(json.dumps({'mIoU': 81.3}))
    with pytest.raises(ValueError, match=r"Expected accuracy/top1 in '.*', found \['mIoU'\]"):
        final_error(path)
    with pytest.raises(FileNotFoundError, match='tools/test.py --out'):
        final_error(tmp_path / 'none.json')


@pytest.fixture
def cfg(vit_cfg):
    augments = [dict(type='Mixup', alpha=0.8), dict(type='MixProBatchAugment', mask_size=32, alpha=0.5)]
    backbone = vit_cfg(type='mmpretrain.VisionTransformer')
    return Config(dict(model=dict(backbone=backbone, train_cfg=dict(augments=augments))))


def test_what_is_varied_stands_in_the_config(cfg, log):
    run = log(FIRST)
    assert (mask_scale(cfg), beta(cfg)) == (2, 0.5)
    for stamp, size in (('20250101_000000', 16), ('20250102_000000', 64)):
        cfg.model.train_cfg.augments[1] = dict(type='MixProBatchAugment', mask_size=size)
        (run / stamp / 'vis_data').mkdir(parents=True, exist_ok=True)
        cfg.dump(run / stamp / 'vis_data/config.py')
    # The newest part's; what is left out has its default.
    assert (mask_scale(config_of(run)), beta(config_of(run))) == (4, 1)
    assert mask_scale(config_of(run / '20250101_000000')) == 1


def test_runs_without_maskmix_or_config_are_refused(cfg, log):
    with pytest.raises(FileNotFoundError, match='VALUE=RUN'):
        config_of(log(FIRST))
    del cfg.model.train_cfg.augments[1]
    with pytest.raises(ValueError, match=r"mixes by \['Mixup'\], not by MaskMix"):
        beta(cfg)


def test_ablation_is_drawn_in_order_with_means_and_baseline():
    panel = ablation_panel('top-1 error (%)', 'scale', {4: [18.0, 20.0], 1: [21.0], 7: [22.0]}, baseline=20.2)
    assert panel.lines == {'MixPro': [(1, 21.0), (4, 19.0), (7, 22.0)], 'baseline': [(1, 20.2), (7, 20.2)]}
    (ax,) = plot_panels([panel]).axes
    assert ax.get_xticks().tolist() == [1, 4, 7]
    assert list(ablation_panel('', '', {4: [18.0]}, None).lines) == ['MixPro']
