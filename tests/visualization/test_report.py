# Copyright (c) MMMixPro contributors.
import base64
import re
from html.parser import HTMLParser

import jinja2
import pytest

from mmmixpro.visualization import write_report

EVIL = '<script>alert("x")</script> & \'<img src=http://example.org/x.png>'
VOID = {'meta', 'img', 'br'}
PNG = b'\x89PNG\r\n\x1a\n and the rest'


class Page(HTMLParser):
    """The tags of a page with their attributes, and its texts; fails where tags do not match."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != 'style' and data.strip():
            self.texts.append(data.strip())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def some_results(text):
    """Results in which every text contains ``text``."""
    stage = dict(
        name=f'run {text}',
        title=f'stage {text}',
        config=f'config {text}',
        work_dir=f'folder {text}',
        seconds=125.2,
        metric=f'metric {text}',
        curve=[[1, 10.0], [2, 61.24]],
        loss=[[10, 2.0], [20, 1.0]],
        final={f'final {text}': 61.24},
        group=f'group {text}',
        init=None,
    )
    return dict(
        data=f'data {text}',
        command=f'command {text}',
        seed=17,
        cores=2,
        versions={f'package {text}': f'1.2.3 {text}'},
        seconds=1712.3,
        stages=[stage, dict(stage, init='MixPro', seconds=12.34)],
        table=[
            dict(task=f'task {text}', metric=f'measure {text}', mixpro=31.24, scratch=25.0),
            dict(task='worse', metric='AP', mixpro=0.5, scratch=1.75),
        ],
    )


@pytest.fixture
def write(tmp_path):
    def write(results, pictures=()):
        path = tmp_path / 'report.html'
        write_report(path, results, list(pictures))
        return path.read_text(encoding='utf-8')

    return write


def test_content(write):
    html = write(some_results('äλ'), [('picture äλ', 'caption äλ', PNG)])
    page = Page(html)
    assert html.startswith('<!DOCTYPE html>')
    assert page.all('html') == [dict(lang='en')]
    assert dict(name='viewport', content='width=device-width, initial-scale=1') in page.all('meta')
    for word in ('data', 'command', 'stage', 'config', 'folder', 'final', 'task', 'measure', 'picture', 'caption'):
        assert any(f'{word} äλ' in text for text in page.texts), word
    text = ' '.join(page.texts)
    assert 'package äλ 1.2.3 äλ' in text
    assert '28 min 32 s on 2 CPU cores, seed 17' in text
    assert '31.2 25.0 +6.2' in text
    assert '0.5 1.8 −1.2' in text
    assert 'final äλ 61.2 2 min 05 s' in text
    assert '12.3 s' in text
    assert 'one seed' in text
    assert 'does not compare MixPro with other ways to pretrain' in text
    # A metric and a loss; what is no name of a metric we know is shown as it is.
    assert len(page.all('svg')) == 2
    assert 'Group äλ: metric äλ' in text


def test_pictures(write):
    page = Page(write(some_results(''), [('one', 'first', PNG), ('two', 'second', PNG[::-1])]))
    prefix = 'data:image/png;base64,'
    assert [img['alt'] for img in page.all('img')] == ['one: first', 'two: second']
    assert all(img['src'].startswith(prefix) for img in page.all('img'))
    decoded = [base64.b64decode(img['src'].removeprefix(prefix)) for img in page.all('img')]
    assert decoded == [PNG, PNG[::-1]]


def test_text_is_escaped(write):
    page = Page(write(some_results(EVIL), [(EVIL, EVIL, PNG)]))
    plain = Page(write(some_results('x'), [('x', 'x', PNG)]))
    in_plots = {'g', 'path', 'use'}  # how many depends on the room that text takes
    assert [tag for tag, _ in page.tags if tag not in in_plots] == [tag for tag, _ in plain.tags if tag not in in_plots]
    assert page.all('script') == []
    assert page.all('img')[0]['alt'] == f'{EVIL}: {EVIL}'
    assert f'data {EVIL}' in page.texts


def test_nothing_from_elsewhere(write):
    html = write(some_results(''), [('one', 'first', PNG)])
    page = Page(html)
    assert not {'link', 'script', 'iframe', 'object', 'base'} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        for name, value in attrs.items():
            if name in ('src', 'href', 'xlink:href', 'srcset', 'action', 'data'):
                assert value.startswith(('data:', '#'))
    # Names of languages are no addresses.
    assert set(re.findall(r'\w+://[^"\s]*', html)) == {'http://www.w3.org/2000/svg', 'http://www.w3.org/1999/xlink'}
    assert '@import' not in html
    assert set(re.findall(r'url\(.', html)) == {'url(#'}
    policy = next(meta['content'] for meta in page.all('meta') if 'http-equiv' in meta)
    assert policy.startswith("default-src 'none';")


def test_names_are_unique(write):
    names = [attrs['id'] for _, attrs in Page(write(some_results(''))).tags if 'id' in attrs]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('key', ['seed', 'config', 'task', 'scratch'])
def test_missing_result(write, key):
    results = some_results('')
    for part in (results, results['stages'][0], results['table'][0]):
        part.pop(key, None)
    with pytest.raises(jinja2.UndefinedError, match=key):
        write(results)
