# Copyright (c) MMMixPro contributors.
"""Links to files of the repository, as GitHub resolves them: relative to the file in which they stand.

A file that has a page on the site (``repository_pages`` of conf.py) is linked to there. Any other gets a page with its
text, a folder one with the names of what it holds, so that the site is whole without a repository behind it.
"""

import html
import os
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[2]


class RepositoryLinks(SphinxTransform):
    default_priority = 700  # before MyST looks for anchors of the page

    def apply(self) -> None:
        for node in list(self.document.findall(nodes.Element)):
            if (link := destination(self.env, node)) is None:
                continue
            source = Path(node.source or self.document['source'])
            path, _, anchor = link.partition('#')
            target = Path(os.path.normpath(source.parent / path)) if path else source
            if not target.is_relative_to(ROOT):
                continue
            name = target.relative_to(ROOT).as_posix()
            pages = self.config.repository_pages
            page = pages.get(f'{name}#{anchor}') or pages.get(name) or self.env.path2doc(target)
            if page == self.env.docname and not path:
                continue
            if page in self.env.found_docs:
                node.replace_self(cross_reference(node, 'myst', page, 'doc', reftargetid=anchor or None))
            elif target.exists():
                node.replace_self(cross_reference(node, 'repository', name, None))


def destination(env: BuildEnvironment, node: nodes.Element) -> str | None:
    """What is written in a link of Markdown that is no address; None for anything else."""
    if node.get('id_link'):
        return node['refuri']
    if node.get('reftype') != 'myst':
        return None
    if node.get('refdomain') != 'doc':
        return node['reftarget']
    # MyST has read it relative to the page, which is right for pages and for what they do not include.
    path = os.path.relpath(env.doc2path(node['reftarget']), Path(node.source).parent)
    return f'{path}#{node["reftargetid"] or ""}'


def cross_reference(link: nodes.Element, kind: str, target: str, domain: str | None, **attributes) -> nodes.Element:
    """What Sphinx or :func:`resolve` makes a link of when all pages are known; ``link`` is MyST's."""
    doc = link.document.settings.env.docname
    reference = addnodes.pending_xref(
        reftype=kind, reftarget=target, refdomain=domain, refdoc=doc, refexplicit=True, **attributes
    )
    reference.source, reference.line = link.source, link.line
    content = nodes.inline(classes=['xref'])
    content += link.children if isinstance(link, nodes.reference) else link[0].children
    reference += content
    return reference


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Element
) -> nodes.Node | None:
    """A link to the page of a file, where there are such pages."""
    if node['reftype'] != 'repository':
        return None
    if app.builder.format != 'html':
        return content
    app.builder.repository_files.add(node['reftarget'])
    uri = app.builder.get_relative_uri(node['refdoc'], page_of(node['reftarget']))
    return nodes.reference('', '', content, internal=True, refuri=uri)


def page_of(name: str) -> str:
    return f'repository/{name}'


def pages(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    """A page for each file and folder that is linked to."""
    for name in sorted(app.builder.repository_files):
        path = ROOT / name
        body = folder(path) if path.is_dir() else text(app, path)
        yield page_of(name), dict(title=name, body=f'<h1>{html.escape(name)}</h1>{body}'), 'page.html'


def folder(path: Path) -> str:
    names = [f'{entry.name}/' if entry.is_dir() else entry.name for entry in sorted(path.iterdir())]
    shown = [name for name in names if not name.startswith(('.', '__pycache__'))]
    return f'<ul>{"".join(f"<li><code>{html.escape(name)}</code></li>" for name in shown)}</ul>'


def text(app: Sphinx, path: Path) -> str:
    try:
        lexer = get_lexer_for_filename(path.name).aliases[0]
    except ClassNotFound:
        lexer = 'text'
    return app.builder.highlighter.highlight_block(path.read_text(), lexer)


def start(app: Sphinx) -> None:
    app.builder.repository_files = set()


def setup(app: Sphinx) -> dict:
    app.add_config_value('repository_pages', {}, 'env')
    app.add_transform(RepositoryLinks)
    app.connect('builder-inited', start)
    app.connect('missing-reference', resolve)
    app.connect('html-collect-pages', pages)
    # Pages are collected in the process that resolves links.
    return dict(parallel_read_safe=True, parallel_write_safe=False)
