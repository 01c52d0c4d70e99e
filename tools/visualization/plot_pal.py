#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Draw lambda, alpha (Fig. 2a and 2b of MixPro), accuracy and shares of the augments over training.

python tools/visualization/plot_pal.py work_dirs/mixpro/deit-s_8xb128_in1k --out alpha.svg

Of any run of a MixClassifier or PALClassifier; several runs are drawn over one another. The values are logged by
MixProgressHook, which configs/_base_/default_runtime.py switches on.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import matplotlib as mpl

from mmmixpro.visualization import average_lines, plot_progress, read_progress
from mmmixpro.visualization.figure import DPI, STYLE

SUFFIXES = ('.svg', '.png', '.pdf')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN', help='work folder of a run, or its scalars.json')
    parser.add_argument('--names', nargs='+', help='of the runs; default: their paths')
    parser.add_argument(
        '--out', type=Path, default=Path('progress.svg'), help='.svg, .png or .pdf; default: %(default)s'
    )
    parser.add_argument('--every', type=int, default=1, help='average so many lines of the log; default: %(default)s')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    names = args.names or [str(run) for run in args.runs]
    if len(set(names)) != len(args.runs):
        raise ValueError(f'Each of the {len(args.runs)} runs needs a name of its own, got {names}. Set --names.')
    if args.out.suffix not in SUFFIXES:
        raise ValueError(f"--out takes one of {', '.join(SUFFIXES)}, got '{args.out}'.")
    if args.every < 1:
        raise ValueError(f'--every takes a number of lines, at least 1; got {args.every}.')
    runs = {name: average_lines(read_progress(run), args.every) for name, run in zip(names, args.runs, strict=True)}
    figure = plot_progress(runs)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # Text stays text in an SVG.
    with mpl.rc_context(STYLE):
        figure.savefig(args.out, dpi=DPI)
    print(f'Drawn: {args.out}')


if __name__ == '__main__':
    main()
