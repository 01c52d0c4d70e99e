#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Draw top-1 accuracy over the share of patches that are dropped (Fig. 3 of MixPro).

python tools/analysis/robustness.py CONFIG CHECKPOINT --also CONFIG CHECKPOINT --suite occlusion --out results
python tools/analysis/plot_occlusion.py results/robustness.json --columns 3 --out occlusion.pdf
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmmixpro.visualization.arguments import add_arguments, check_arguments
from mmmixpro.visualization.figure import write_figure
from mmmixpro.visualization.panels import plot_panels
from mmmixpro.visualization.robustness import notes_of, occlusion_panels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('results', nargs='+', type=Path, metavar='FILE', help='robustness.json of the tool above')
    add_arguments(parser, 'occlusion.svg')
    args = parser.parse_args()
    check_arguments(args)
    missing = [str(path) for path in args.results if not path.is_file()]
    if missing:
        raise FileNotFoundError(f'Expected robustness.json of tools/analysis/robustness.py, found no {missing}.')
    records = [json.loads(path.read_text()) for path in args.results]
    models = [model for record in records for model in record['models']]
    names = [model['name'] for model in models]
    if len(set(names)) < len(names):
        raise ValueError(
            f'Models of several files need different names, got {names}. Set --names when they are tested.'
        )
    suites = dict.fromkeys(suite for record in records for suite in record['suites'])
    record = dict(models=models, suites=list(suites))
    panels = occlusion_panels(record)
    if not panels:
        raise ValueError(f'Expected results of the suite occlusion, found none of {names}.')
    write_figure(plot_panels(panels, args.columns), args.out)
    for note in notes_of(record, 'occlusion'):
        print(note)
    print(f'Drawn: {args.out}')


if __name__ == '__main__':
    main()
