# Copyright (c) MMMixPro contributors.
"""The site is built without warnings, and is whole without a network."""

import subprocess
import sys
from html.parser import HTMLParser
from inspect import ismodule
from urllib.parse import unquote, urlparse

import pytest
from pages import ROOT

from mmmixpro import apis, attention, datasets, engine, evaluation, labels, mixing, structures

pytest.importorskip('sphinx', reason='the extra `docs` is not installed')
pytestmark = pytest.mark.slow
PUBLIC = (apis, attention, datasets, engine, evaluation, labels, mixing, structures)


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[key] for key in ('id', 'name') if found.get(key)}
        if tag == 'a' and found.get('href'):
            self.links.append(found['href'])
        if found.get('src') or (tag == 'link' and found.get('href')):
            self.loaded.append(found.get('src') or found['href'])


def test_site(tmp_path):
    site = tmp_path / 'site'
    command = [sys.executable, '-m', 'sphinx', '-E', '-W', '--keep-going', '-q', '-d', tmp_path / 'doctrees']
    built = subprocess.run([*command, ROOT / 'docs', site], capture_output=True, text=True, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    pages = {path.resolve(): Page(path) for path in site.rglob('*.html')}
    assert len(pages) > 60
    broken, elsewhere = [], []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            address = urlparse(link)
            if address.scheme or address.netloc:
                elsewhere += [link] if link in page.loaded and address.scheme != 'data' else []
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            if not target.exists() or (address.fragment and unquote(address.fragment) not in pages[target].ids):
                broken.append((path.relative_to(site).as_posix(), link))
    assert not broken
    assert not elsewhere
    documented = set().union(*(page.ids for page in pages.values()))
    for module in PUBLIC:
        names = [name for name in module.__all__ if not ismodule(getattr(module, name))]
        assert not [name for name in names if f'{module.__name__}.{name}' not in documented]
