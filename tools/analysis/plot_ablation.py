#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Draw top-1 error over the scale of the mask's cells and over beta (Fig. 5 of MixPro).

python tools/analysis/plot_ablation.py --scale work_dirs/ablation/fig5a_* --beta work_dirs/ablation/fig5b_* \
    --baseline work_dirs/baseline/deit-s_8xb128_in1k --out ablation.svg
python tools/analysis/plot_ablation.py --scale 1=scale1.json 2=scale2.json 4=scale4.json

A RUN is the work folder of a training, whose config tells the value and whose last validation the error; VALUE=RUN says
the value, and the file may then be what tools/test.py --out wrote. Of several runs of one value the mean is drawn.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mmmixpro  # noqa: F401  (registers everything)
from mmmixpro.visualization.arguments import add_arguments, check_arguments
from mmmixpro.visualization.figure import write_figure
from mmmixpro.visualization.panels import plot_panels
from mmmixpro.visualization.runs import ablation_panel, beta, config_of, final_error, mask_scale

# What is varied: how it is read from a config, and what stands below its axis.
VARIED = dict(
    scale=(mask_scale, 'side of a cell, in tokens'),
    beta=(beta, 'β of the Beta distribution'),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in VARIED:
        parser.add_argument(f'--{name}', nargs='+', default=[], metavar='RUN', help=f'runs that differ in {name}')
    parser.add_argument('--baseline', type=Path, metavar='RUN', help='a run without MixPro')
    add_arguments(parser, 'ablation.svg')
    args = parser.parse_args()
    check_arguments(args)
    baseline = final_error(args.baseline) if args.baseline else None
    panels = []
    for name, (value_of, unit) in VARIED.items():
        errors: dict[float, list[float]] = {}
        for run in getattr(args, name):
            value, path = parse(run, value_of)
            errors.setdefault(value, []).append(final_error(path))
            print(f'{name} {value:g}: {errors[value][-1]:.2f} % ({path})')
        if errors:
            panels.append(ablation_panel('top-1 error (%)', unit, errors, baseline))
    if not panels:
        parser.error('give runs: --scale RUN [RUN ...] or --beta RUN [RUN ...]')
    write_figure(plot_panels(panels, args.columns), args.out)
    print(f'Drawn: {args.out}')


def parse(run: str, value_of) -> tuple[float, Path]:
    """The value and the path of a run; folders may have '=' in their names."""
    value, sign, path = run.partition('=')
    if sign and not Path(run).exists():
        try:
            return float(value), Path(path)
        except ValueError:
            raise ValueError(f"Expected RUN or VALUE=RUN with a number, got '{run}'.") from None
    return value_of(config_of(Path(run))), Path(run)


if __name__ == '__main__':
    main()
