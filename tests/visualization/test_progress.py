# Copyright (c) MMMixPro contributors.
import json

import numpy as np
import pytest

from mmmixpro.visualization import average_lines, plot_progress, read_progress
from mmmixpro.visualization.progress import average_epochs


def line(step, **values):
    values = {'acc': 0.1, **values}
    return dict(step=step, loss=2.0, **{f'mix/{key}': value for key, value in values.items()})


LINES = [
    line(5, acc=0.2, lam=0.4, lam_attn=0.5, alpha=0.1, alpha_std=0.02, share_MaskMix=0.6, share_none=0.4),
    line(10, acc=0.3, share_MaskMix=0.0, share_none=1.0),
    line(15, acc=0.5, lam=0.6, lam_attn=0.3, alpha=0.3, alpha_std=0.04, share_MaskMix=1.0, share_none=0.0),
]


@pytest.fixture
def log(tmp_path):
    def log(lines, stamp='20250101_000000', run='run'):
        path = tmp_path / run / stamp / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(''.join(json.dumps(entry) + '\n' for entry in lines))
        return tmp_path / run

    return log


def test_reads_any_folder_of_a_run(log):
    run = log([*LINES, {'accuracy/top1': 50.0, 'step': 1}])
    for path in (run, run / '20250101_000000', *run.glob('*/vis_data'), *run.glob('*/vis_data/*.json')):
        assert read_progress(path) == LINES


def test_resumed_parts_follow_one_another(log):
    log(LINES)
    again = [line(15, acc=0.6), line(20, acc=0.7)]
    assert read_progress(log(again, '20250102_000000')) == [*LINES[:2], *again]


def test_what_is_missing_is_said(log, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Expected a training log .* in '.*nowhere', found none"):
        read_progress(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match='tells nothing of mixing: .*MixProgressHook.*default_hooks=dict'):
        read_progress(log([dict(step=5, loss=1.0)]))


def plots(figure):
    return {ax.get_title(loc='left'): ax for ax in figure.axes}


def test_figure_has_the_numbers_of_the_log():
    lam, alpha, accuracy, shares = plots(plot_progress({'run': LINES})).values()
    area, attention = (ax.get_xydata().tolist() for ax in lam.lines)
    assert area == [[5, 0.4], [15, 0.6]]
    assert attention == [[5, 0.5], [15, 0.3]]
    assert alpha.lines[0].get_xydata().tolist() == [[5, 0.1], [15, 0.3]]
    corners = {tuple(corner) for corner in alpha.collections[0].get_paths()[0].vertices.round(6).tolist()}
    assert corners == {(5, 0.08), (5, 0.12), (15, 0.26), (15, 0.34)}
    assert accuracy.lines[0].get_xydata().tolist() == [[5, 20], [10, 30], [15, 50]]
    bottom, top = (stack.get_paths()[0].vertices for stack in shares.collections)
    assert {(5.0, 60.0), (10.0, 0.0), (15.0, 100.0)} <= set(map(tuple, bottom.tolist()))
    assert top[:, 1].max() == 100
    assert [text.get_text() for text in shares.get_legend().get_texts()] == ['MaskMix', 'none']


def test_several_runs_and_labels_without_attention():
    area_only = [line(5, acc=0.2, lam=0.4, share_GridMix=1.0)]
    unmixed = [line(5, acc=0.3, share_none=1.0)]
    drawn = plots(plot_progress({'one': area_only, 'two': unmixed}))
    assert list(drawn) == [
        'λ: share of the own image, mean',
        'accuracy against the mixed label (%)',
        'share of the batches (%), one',
        'share of the batches (%), two',
    ]
    first, second, *_ = drawn.values()
    assert [text.get_text() for text in first.get_legend().get_texts()] == ['one area']
    assert [text.get_text() for text in second.get_legend().get_texts()] == ['one', 'two']
    assert first.lines[0].get_color() == second.lines[0].get_color() != second.lines[1].get_color()


def test_average():
    rng = np.random.default_rng(0)
    images = rng.random((4, 100))
    lines = [line(i, alpha=batch.mean(), alpha_std=batch.std(), share_x=1.0) for i, batch in enumerate(images)]
    (merged,) = average_lines(lines, 4)
    assert merged['mix/alpha'] == pytest.approx(images.mean())
    assert merged['mix/alpha_std'] == pytest.approx(images.std())
    first, last = average_lines(LINES, 2)
    assert (first['step'], last['step']) == (10, 15)
    assert first['mix/acc'] == pytest.approx(0.25)
    assert first['mix/lam'] == pytest.approx(0.4)  # of the line that has it
    assert first['mix/share_MaskMix'] == pytest.approx(0.3)
    assert 'mix/alpha' not in average_lines(LINES[1:2], 5)[0]


def test_averaged_shares_of_what_came_later():
    first, second = line(5, share_a=1.0), line(10, share_a=0.5, share_b=0.5)
    assert average_lines([first, second], 2)[0]['mix/share_b'] == pytest.approx(0.25)


def test_epochs():
    """As the lines of an epoch, however many they are, averaged by number; drawn over epochs."""
    epochs = [dict(entry, epoch=epoch) for entry, epoch in zip(LINES, (1, 1, 2), strict=True)]
    first, second = average_epochs(epochs)
    assert (first['step'], second['step']) == (1, 2)
    assert {**first, 'step': 10} == average_lines(LINES, 2)[0]
    assert {**second, 'step': 15} == average_lines(LINES[2:], 1)[0]
    figure = plot_progress({'run': [first, second]}, 'epoch', columns=1)
    assert {ax.get_xlabel() for ax in figure.axes} == {'epoch'}
    assert plots(figure)['α: trust in attention, mean ± std'].lines[0].get_xydata().tolist() == [[1, 0.1], [2, 0.3]]
    with pytest.raises(ValueError, match='trains by iteration: no epochs'):
        average_epochs(LINES)
