#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Draw training loss and top-1 error of several runs by epoch (Fig. 2c and 2d of MixPro).

python tools/analysis/plot_generalization.py work_dirs/transmix/deit-s_8xb128_in1k work_dirs/mixpro/deit-s_8xb128_in1k \
    --names TransMix MixPro --out generalization.svg

Of Fig. 2, tools/analysis/plot_pal.py --by-epoch draws a, and tools/analysis/plot_alpha.py b.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmmixpro.visualization.arguments import add_arguments, check_arguments, name_runs
from mmmixpro.visualization.figure import write_figure
from mmmixpro.visualization.panels import plot_panels
from mmmixpro.visualization.runs import generalization_panels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN', help='work folder of a run, or its scalars.json')
    parser.add_argument('--names', nargs='+', help='of the runs; default: their paths')
    add_arguments(parser, 'generalization.svg')
    args = parser.parse_args()
    runs = name_runs(args.runs, args.names)
    check_arguments(args)
    write_figure(plot_panels(generalization_panels(runs), args.columns), args.out)
    print(f'Drawn: {args.out}')


if __name__ == '__main__':
    main()
