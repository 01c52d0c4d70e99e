# Copyright (c) MMMixPro contributors.
"""Pages of HTML that need no other file and no network, and the one that the demo ends with."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmmixpro.engine.atomic_backend import AtomicLocalBackend

from .curves import plot_curves


def write_page(path: str | Path, template: str, **values: Any) -> None:
    """Write a page, whole or not at all.

    Args:
        path: The file to write.
        template: A file beside this one, made on ``page.html.j2``, whose look all pages share.
        **values: What the template asks for.

    Raises:
        jinja2.UndefinedError: If one of these is missing.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(base64=_base64, duration=_duration)
    page = environment.get_template(template).render(**values)
    AtomicLocalBackend().put(page.encode(), str(path))


def write_report(path: str | Path, results: dict, pictures: list[tuple[str, str, bytes]]) -> None:
    """Write results, curves and pictures of the demo as one HTML file.

    Args:
        path: The file to write.
        results: ``data``, ``command``, ``seed``, ``cores``, ``versions`` (of each package),
            ``seconds``; ``stages``, dicts with ``title``, ``config``, ``seconds``, ``final`` (of
            each metric, in percent), ``work_dir``, and what :func:`plot_curves` takes; ``table``,
            dicts with ``task``, ``metric``, and its value in percent for the model from the
            ``mixpro`` checkpoint and for the one from ``scratch``.
        pictures: Title, caption and PNG of each.

    Raises:
        jinja2.UndefinedError: If ``results`` lack one of these.
    """
    write_page(path, 'report.html.j2', **results, curves=plot_curves(results['stages']), pictures=pictures)


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode()


def _duration(seconds: float) -> str:
    """Seconds as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest:02d} s' if minutes else f'{seconds:.1f} s'
