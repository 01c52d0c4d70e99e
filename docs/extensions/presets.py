# Copyright (c) MMMixPro contributors.
"""The directive ``{presets}``: in what configs differ, read off the configs themselves when the site is built."""

from collections.abc import Iterator, Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from docutils import nodes
from mmengine.config import Config
from mmpretrain.registry import BATCH_AUGMENTS, MODELS
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import mmmixpro  # noqa: F401 (registers everything)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
UNSET = '-'


def with_defaults(setting: dict) -> dict:
    """A setting with what its class takes for the arguments that it leaves out."""
    cls = BATCH_AUGMENTS.get(setting['type']) or MODELS.get(setting['type']) if 'type' in setting else None
    if cls is None:
        return setting
    arguments = signature(cls.__init__).parameters.values()
    return {each.name: each.default for each in arguments if each.default is not Parameter.empty} | setting


def differences(settings: Sequence[Any], name: str = '') -> Iterator[tuple[str, list[str]]]:
    """The name of each setting that is not the same in all configs, and what it is in each.

    Args:
        settings: The same part of each config.
        name: Of that part.
    """
    if all(each == settings[0] for each in settings):
        return
    if all(isinstance(each, dict) for each in settings) and len({each.get('type') for each in settings}) == 1:
        settings = [with_defaults(each) for each in settings]
        for key in dict.fromkeys(key for each in settings for key in each):
            yield from differences([each.get(key, UNSET) for each in settings], f'{name}.{key}'.strip('.'))
    elif all(isinstance(each, list) for each in settings) and len({len(each) for each in settings}) == 1:
        for items in zip(*settings, strict=True):
            yield from differences(items, f'{name}[{items[0]["type"]}]' if isinstance(items[0], dict) else name)
    else:
        yield name, [each if each is UNSET else repr(each) for each in settings]


def load(name: str) -> dict:
    """A config without ``method``, from which ``model`` is copied."""
    config = Config.fromfile(CONFIGS / name).to_dict()
    config.pop('method')
    return config


class Presets(SphinxDirective):
    """Each line of its content is a column: title, colon, config."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        titles, names = zip(*(line.split(': ') for line in self.content), strict=True)
        for name in names:
            self.env.note_dependency(str(CONFIGS / name))
        lines = [['setting', *titles], ['---'] * (1 + len(titles))]
        for name, values in differences([load(name) for name in names]):
            lines.append([f'`{name}`', *(value if value is UNSET else f'`{value}`' for value in values)])
        return self.parse_text_to_nodes('\n'.join(f'| {" | ".join(line)} |' for line in lines))


def setup(app: Sphinx) -> dict:
    app.add_directive('presets', Presets)
    return dict(parallel_read_safe=True, parallel_write_safe=True)
