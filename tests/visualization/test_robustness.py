# Copyright (c) MMMixPro contributors.
"""The page, its tables and its curves, of records written by hand."""

import re
from xml.etree import ElementTree

import jinja2
import pytest
from test_report import EVIL, Page

from mmmixpro.visualization.panels import plot_panels
from mmmixpro.visualization.robustness import (
    notes_of,
    occlusion_curves,
    occlusion_panels,
    occlusion_tables,
    suite_table,
    table_5,
    tables,
    unmeasured,
    write_robustness,
)

NOTE = '14 x 14 patches, random by seed 0, salient by class attention of the model under test'


def done(**metrics):
    settings = dict(dataset=dict(type='ImageNet'), test_evaluator=[dict(type='Metric')], test_cfg={}, seed=0, model={})
    facts = dict(images=50000, seconds=75.0, device='cpu', warnings=[], note='', date='2026-01-02 03:04:05')
    facts |= dict(versions=dict(torch='2.11'))
    return dict(status='done', metrics=metrics, settings=settings, **facts)


def some_suites(shift=0.0):
    """Results of each suite; what differs between models differs by ``shift``."""
    percents = range(0, 101, 20)
    occlusion = {
        f'occlusion/{kind}/{percent}': 80 + shift - slope * percent
        for kind, slope in {'random': 0.3, 'salient': 0.7, 'non-salient': 0.1}.items()
        for percent in percents
    }
    a = dict(top1=20.0 + shift, top1_all=3.0, rms=31.0, rms_hendrycks=30.5, aurra=25.0 + shift)
    corruption = dict(fog=40.0, gaussian_noise=50.0 + shift, error=45.0)
    return {
        'occlusion': done(**occlusion) | dict(note=NOTE),
        'imagenet-a': done(**{f'imagenet-a/{key}': value for key, value in a.items()}),
        'imagenet-o': dict(status='skipped', reason="ImageNetO expects '/data/imagenet-o', which is not there."),
        'calibration': done(**{'calibration/ece': 5.0 + shift, 'calibration/rms': None}),
        'corruption': done(**{f'corruption/{key}': value for key, value in corruption.items()}),
        'adversarial': dict(status='failed', reason='out of memory'),
    }


def some_record(names=('CutMix', 'MixPro'), suites=some_suites):
    models = [
        dict(name=name, config=f'configs/{i}.py', checkpoint=f'{i}.pth', sha256=64 * str(i % 10), suites=suites(i))
        for i, name in enumerate(names)
    ]
    head = dict(command='robustness.py', date='2026-01-02 03:04:05', device='cpu')
    return dict(head, suites=list(models[0]['suites']), models=models)


@pytest.fixture
def write(tmp_path):
    def write(record):
        path = tmp_path / 'robustness.html'
        write_robustness(path, record)
        return path.read_text(encoding='utf-8')

    return write


@pytest.fixture(scope='module')
def html(tmp_path_factory):
    """The page of three models."""
    path = tmp_path_factory.mktemp('page') / 'robustness.html'
    write_robustness(path, some_record(['CutMix', 'MixPro', 'other']))
    return path.read_text(encoding='utf-8')


def test_table_5_is_the_papers():
    """Columns in the paper's order, a row for each model, and the paper's figures apart from ours."""
    table = table_5(some_record())
    assert [title.split(' ')[0] for title in table.columns] == ['top-1', 'calibration', 'AURRA', 'AUPR']
    assert table.rows == [('CutMix', [20.0, 30.5, 25.0, None]), ('MixPro', [21.0, 30.5, 26.0, None])]
    # Table 5, as printed.
    assert dict(table.paper) == {
        'DeiT-S': [19.1, 32.0, 23.8, 20.9],
        'TransMix-DeiT-S': [21.1, 31.2, 28.8, 21.9],
        'MixPro-DeiT-S': [22.4, 30.3, 32.4, 23.1],
    }


def test_the_papers_figures_do_not_stand_alone():
    record = some_record(suites=lambda i: {'calibration': done(**{'calibration/ece': 1.0})})
    assert table_5(record) is None
    assert [table.title for table in tables(record)] == ['Calibration']


def test_one_column_for_each_model():
    table = suite_table(some_record(), 'corruption')
    assert table.columns == ['CutMix', 'MixPro']
    mean = ('mean of 2 corruptions ↓', [45.0, 45.0])
    assert table.rows == [('fog', [40.0, 40.0]), ('gaussian noise', [50.0, 51.0]), mean]
    assert suite_table(some_record(), 'adversarial') is None


def test_a_model_that_lacks_figures_keeps_its_column():
    record = some_record()
    record['models'][0]['suites']['corruption'] = dict(status='pending')
    assert suite_table(record, 'corruption').rows[0] == ('fog', [None, 40.0])


def test_means_over_other_corruptions_do_not_stand_side_by_side():
    """Nor do those over as many, nor count what is no corruption."""
    metrics = [dict(fog=4, error=4), dict(fog=4, snow=8, error=6, mce=7, relative_mce=9), dict(snow=8, error=8)]
    record = some_record(
        names='abc', suites=lambda i: {'mine': done(**{f'corruption/{key}': v for key, v in metrics[i].items()})}
    )
    assert suite_table(record, 'mine').rows == [
        ('fog', [4, 4, None]),
        ('mean of 1 corruption ↓', [4, None, None]),
        ('snow', [None, 8, 8]),
        ('mean of 2 corruptions ↓', [None, 6, None]),
        ('mCE, relative to AlexNet ↓', [None, 7, None]),
        ('relative mCE, of what corruption adds to the error ↓', [None, 9, None]),
        ('mean of 1 corruption ↓', [None, None, 8]),
    ]


def test_occlusion_is_known_by_its_figures():
    """Of a suite of one's own, beside the project's, with more figures for each setting."""
    extra = {'occlusion/random/50': 7.0, 'occlusion/random/50/top5': 9.0, 'accuracy/top1': 8.0}
    record = some_record(names=['CutMix'], suites=lambda i: {'mine': done(**extra)})
    assert occlusion_curves(record) == {'random': {'CutMix': [(50.0, 7.0)]}}
    assert [table.rows for table in occlusion_tables(record)] == [[('50 %', [7.0])]]
    assert suite_table(record, 'mine').rows == [('top5', [9.0]), ('top1', [8.0])]
    record = some_record(names=['CutMix'], suites=lambda i: {**some_suites(), 'mine': done(**extra)})
    assert list(occlusion_curves(record)['random']) == ['CutMix, occlusion', 'CutMix, mine']
    assert list(occlusion_curves(record)['salient']) == ['CutMix, occlusion']
    assert suite_table(record, 'occlusion') is None


def test_suites_of_ones_own_are_called_as_they_are():
    record = some_record(suites=lambda i: {'mine': done(**{'mine/some_figure': 1.0, 'accuracy/top1': 2.0})})
    (table,) = tables(record)
    assert (table.title, [name for name, _ in table.rows]) == ('mine', ['some figure', 'top1'])


def test_curves_follow_the_percentages():
    """Sorted as numbers, not as words."""
    curves = occlusion_curves(some_record())
    assert list(curves) == ['random', 'salient', 'non-salient']
    assert curves['salient']['MixPro'] == [(p, pytest.approx(81 - 0.7 * p)) for p in (0, 20, 40, 60, 80, 100)]


def test_curves_of_some_kinds_and_some_models():
    record = some_record()
    del record['models'][0]['suites']['occlusion']
    record['models'][1]['suites']['occlusion']['metrics'] = {'occlusion/random/50': 1.0, 'occlusion/random/5': None}
    assert occlusion_curves(record) == {'random': {'MixPro': [(50.0, 1.0)]}}


def test_what_figures_hang_on_is_said_once_or_of_each():
    record = some_record()
    assert notes_of(record, 'occlusion') == [f'{NOTE}.']
    record['models'][1]['suites']['occlusion']['note'] = 'salient by DINO'
    assert notes_of(record, 'occlusion') == [f'CutMix: {NOTE}.', 'MixPro: salient by DINO.']
    # What was warned of, too.
    for model, warnings in zip(record['models'], (['a.', 'b'], ['b', 'a']), strict=True):
        model['suites']['occlusion'] |= dict(note='', warnings=warnings)
    assert notes_of(record, 'occlusion') == ['a.', 'b.']
    record['models'][1]['suites']['occlusion']['warnings'] = ['b']
    assert notes_of(record, 'occlusion') == ['CutMix: a.', 'b.']


def test_content(html):
    page = Page(html)
    text = ' '.join(page.texts)
    assert html.startswith('<!DOCTYPE html>')
    assert 'configs/1.py' in text and '1.pth' in text and 'sha256 111111111111' in text
    # What is not there is named, of each model.
    assert len(unmeasured(some_record())) == 4
    assert text.count("ImageNetO expects '/data/imagenet-o', which is not there.") == 3
    assert text.count('out of memory') == 3
    # Table 5: ours, and the paper's marked as such.
    assert 'CutMix 20.0 30.5 25.0 –' in text
    assert "MixPro-DeiT-S the paper's 22.4 30.3 32.4 23.1" in text
    assert page.texts.count("the paper's") == 3
    assert 'salient by class attention of the model under test.' in text
    assert 'expected calibration error ↓ 5.0 6.0 7.0' in text
    assert 'RMS calibration error ↓ – – –' in text
    # The figures behind the curves.
    assert '100 % 50.0 51.0' in text and '100 % 10.0 11.0' in text
    assert '50000 images, 1 min 15 s, cpu' in text
    assert text.count('torch 2.11') == 4 * 3  # of each result its own
    for kind in ('Random', 'Salient', 'Non-salient'):
        assert f'{kind} patches dropped: top-1 (%)' in page.texts


def test_curves_have_a_line_for_each_model(html):
    svgs = re.findall(r'<svg.*?</svg>', html, re.DOTALL)
    assert len(svgs) == 3
    for svg in svgs:
        texts = [''.join(t.itertext()) for t in ElementTree.fromstring(svg).iter() if t.tag.endswith('text')]
        assert {'CutMix', 'MixPro', 'other', 'patches dropped (%)'} <= set(texts)


def test_curves_share_their_scale():
    """Also where each is drawn alone, as on the page; all points are within."""
    record = some_record()
    panels = occlusion_panels(record)
    drawn = [plot_panels(panels).axes, *(plot_panels([panel]).axes for panel in panels)]
    (limits,) = {ax.get_ylim() for axes in drawn for ax in axes}
    assert limits[0] < 80 - 70 and limits[1] > 81 and limits[1] - limits[0] < 1.2 * 71  # all of it
    same = some_record(
        suites=lambda i: {'occlusion': done(**{'occlusion/random/0': 50.0, 'occlusion/random/100': 50.0})}
    )
    assert plot_panels(occlusion_panels(same)).axes[0].get_ylim() == (49.5, 50.5)


def test_warnings_are_not_hidden(write):
    """A closed <details> would be overlooked."""
    record = some_record()
    record['models'][1]['suites']['calibration']['warnings'] = ['of 99 samples, nothing is left']
    html = write(record)
    assert 'MixPro: of 99 samples, nothing is left.' in ' '.join(Page(html).texts)
    assert 'nothing is left' not in ''.join(re.findall(r'<details.*?</details>', html, re.DOTALL))


def test_every_figure_of_ours_has_a_name():
    """But for the names of corruptions, and what the curves show."""
    record = some_record(
        suites=lambda i: {'imagenet-c': done(**{'corruption/mce': 1.0, 'corruption/relative_mce': 2.0})}
    )
    (table,) = tables(record)
    assert [name for name, _ in table.rows] == [
        'mCE, relative to AlexNet ↓',
        'relative mCE, of what corruption adds to the error ↓',
    ]


def test_lines_are_told_apart():
    names = [f'model {i}' for i in range(20)]
    figure = plot_panels(occlusion_panels(some_record(names)))
    for ax in figure.axes:
        assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 20
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    # One model needs no legend.
    assert not plot_panels(occlusion_panels(some_record(['one']))).legends


def test_any_number_of_models(write):
    page = Page(write(some_record([f'model {i}' for i in range(12)])))
    assert 'model 11 31.0 30.5 36.0 –' in ' '.join(page.texts)
    # On a phone each figure says whose it is.
    assert all(cell['data-name'] for cell in page.all('td'))
    assert {table['class'] for table in page.all('table')} == {'stack'}


def test_nothing_from_elsewhere(html):
    page = Page(html)
    assert not {'link', 'script', 'iframe', 'object', 'base', 'img'} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        for name, value in attrs.items():
            if name in ('src', 'href', 'xlink:href', 'srcset', 'action', 'data'):
                assert value.startswith('#')
    assert set(re.findall(r'\w+://[^"\s]*', html)) == {'http://www.w3.org/2000/svg', 'http://www.w3.org/1999/xlink'}
    assert '@import' not in html
    policy = next(meta['content'] for meta in page.all('meta') if 'http-equiv' in meta)
    assert policy.startswith("default-src 'none';")
    names = [attrs['id'] for _, attrs in page.tags if 'id' in attrs]
    assert len(set(names)) == len(names)


def test_text_is_escaped(write):
    record = some_record([EVIL, 'other'])
    record['models'][0]['suites']['adversarial']['reason'] = EVIL
    record['models'][0]['suites']['occlusion'] |= dict(note=EVIL, warnings=[EVIL], versions={EVIL: EVIL})
    page = Page(write(record))
    assert page.all('script') == page.all('img') == []
    assert EVIL in page.texts


def test_missing_part(write):
    record = some_record()
    del record['device']
    with pytest.raises(jinja2.UndefinedError, match='device'):
        write(record)
