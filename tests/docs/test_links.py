# Copyright (c) MMMixPro contributors.
"""Every relative link of every page leads to a file that there is, and to a heading of it."""

import re

import pytest
from pages import ROOT, prose

PAGES = [
    *sorted(ROOT.glob('docs/**/*.md')),
    *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')),
    ROOT / 'configs/README.md',
    ROOT / 'configs/ablation/README.md',
]
PAGES = [page for page in PAGES if '_build' not in page.parts]
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
LINK = re.compile(r'\]\(([^()\s]+)\)')
INCLUDE = re.compile(r'^```\{include\} (\S+)', re.MULTILINE)


def anchors(page):
    """Of the headings of a page, as GitHub and MyST name them, and of what it includes."""
    text, found = page.read_text(), set()
    for heading in re.findall(r'^#+ (.*)$', prose(text), re.MULTILINE):
        heading = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)
        found.add(re.sub(r'[^\w\- ]', '', heading.lower().strip()).replace(' ', '-'))
    return found.union(*(anchors(page.parent / name) for name in INCLUDE.findall(text)))


@pytest.mark.parametrize('page', PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    broken = []
    for link in LINK.findall(prose(page.read_text())):
        if re.match(r'\w+:', link):
            continue
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_a_broken_one_would_be_found(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('# A `b` of c\n\n[x](#a-b-of-c) [y](#nowhere) [z](gone.md) [w](https://example.org)\n')
    with pytest.raises(AssertionError, match=r"\['#nowhere', 'gone.md'\]"):
        test_links_lead_somewhere(page)


@pytest.mark.parametrize('page', PAGES, ids=IDS)
def test_commands_and_configs_exist(page):
    """Files that a page names in its code, and targets of make."""
    text = page.read_text()
    files = re.findall(r'(?<![\w/.])((?:configs|tools|docs/scripts)/[\w./-]+\.(?:py|sh))\b', text)
    written = re.findall(r'^```python\n# (\S+\.py)$', text, re.MULTILINE)  # by the page's reader
    assert not [file for file in files if not (ROOT / file).is_file() and file not in written]
    targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    assert {
        name for name in re.findall(r'`make ([a-z][a-z-]*)|^make ([a-z-]+)', text) for name in name if name
    } <= targets


def test_every_page_is_in_a_table_of_contents():
    pages = {page.relative_to(ROOT / 'docs').with_suffix('').as_posix() for page in PAGES if 'docs' in page.parts[:-1]}
    listed = {'index'}
    for page in pages:
        source = ROOT / 'docs' / f'{page}.md'
        for tree in re.findall(r'^```\{toctree\}\n(.*?)^```', source.read_text(), re.DOTALL | re.MULTILINE):
            names = [line.strip() for line in tree.splitlines() if line.strip() and not line.startswith(':')]
            listed |= {(source.parent / name).relative_to(ROOT / 'docs').as_posix() for name in names}
    assert {page for page in pages if page not in listed} == set()
