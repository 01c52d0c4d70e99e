#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Draw lambda, alpha (Fig. 2a of MixPro), accuracy and shares of the augments over training.

python tools/analysis/plot_pal.py work_dirs/mixpro/deit-s_8xb128_in1k --by-epoch --out alpha.svg

Alpha of each image in one mini-batch is drawn by tools/analysis/plot_alpha.py. Of any run of a MixClassifier or
PALClassifier; several runs are drawn over one another. The values are logged by MixProgressHook, which
configs/_base_/default_runtime.py switches on.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmmixpro.visualization import average_lines, plot_progress, read_progress
from mmmixpro.visualization.arguments import add_arguments, check_arguments, name_runs
from mmmixpro.visualization.figure import write_figure
from mmmixpro.visualization.progress import average_epochs


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN', help='work folder of a run, or its scalars.json')
    parser.add_argument('--names', nargs='+', help='of the runs; default: their paths')
    averages = parser.add_mutually_exclusive_group()
    averages.add_argument('--every', type=int, default=1, help='average so many lines of the log; default: %(default)s')
    averages.add_argument('--by-epoch', action='store_true', help='average the lines of each epoch')
    add_arguments(parser, 'progress.svg', columns=2)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    runs = name_runs(args.runs, args.names)
    check_arguments(args)
    if args.every < 1:
        raise ValueError(f'--every takes a number of lines, at least 1; got {args.every}.')
    lines = {name: read_progress(run) for name, run in runs.items()}
    if args.by_epoch:
        averaged, unit = {name: average_epochs(run) for name, run in lines.items()}, 'epoch'
    else:
        averaged, unit = {name: average_lines(run, args.every) for name, run in lines.items()}, 'iteration'
    write_figure(plot_progress(averaged, unit, args.columns), args.out)
    print(f'Drawn: {args.out}')


if __name__ == '__main__':
    main()
