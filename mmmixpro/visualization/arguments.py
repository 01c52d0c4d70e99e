# Copyright (c) MMMixPro contributors.
"""What the tools that draw have in common on the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .figure import SUFFIXES


def add_out(parser: argparse.ArgumentParser, out: str) -> None:
    """Add ``--out``, with its default."""
    kinds = ', '.join(SUFFIXES[:-1]) + f' or {SUFFIXES[-1]}'
    parser.add_argument('--out', type=Path, default=Path(out), help=f'{kinds}; default: %(default)s')


def add_arguments(parser: argparse.ArgumentParser, out: str, columns: int = 1) -> None:
    """Add ``--out`` and ``--columns``, with their defaults."""
    add_out(parser, out)
    parser.add_argument(
        '--columns', type=int, default=columns, help='plots side by side, 1 for a phone; default: %(default)s'
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse, before the work begins, what nothing can be drawn of.

    Raises:
        ValueError: If ``--out`` has another ending, or if ``--columns`` is no number of plots.
    """
    if args.out.suffix not in SUFFIXES:
        raise ValueError(f"--out takes one of {', '.join(SUFFIXES)}, got '{args.out}'.")
    if getattr(args, 'columns', 1) < 1:
        raise ValueError(f'--columns takes a number of plots, at least 1; got {args.columns}.')


def name_runs(runs: Sequence[Path], names: Sequence[str] | None) -> dict[str, Path]:
    """Each run by a name of its own, by default its path.

    Raises:
        ValueError: If a name is missing or given twice.
    """
    names = names or [str(run) for run in runs]
    if len(set(names)) != len(runs) or len(names) != len(runs):
        raise ValueError(f'Each of the {len(runs)} runs needs a name of its own, got {names}. Set --names.')
    return dict(zip(names, runs, strict=True))
