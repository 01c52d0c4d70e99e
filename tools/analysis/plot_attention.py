#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Draw images, the mixed images made of them, and where the model looks in these (Fig. 6 of MixPro).

python tools/analysis/plot_attention.py CONFIG CHECKPOINT --num 6 --seed 1 --out attention.pdf

The images are those of the config's test set. tools/visualization/browse_mix.py draws several methods side by side.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mmmixpro  # noqa: F401  (first: `mmmixpro::` in a config resolves once it is imported)
from mmmixpro.apis.batch import load_batch, parse_batch_arguments
from mmmixpro.visualization.figure import write_figure
from mmmixpro.visualization.mixed import mixed_figure


def main() -> None:
    args = parse_batch_arguments(__doc__, 4, 'attention.svg')
    classifier, images, labels, classes, in_memory = load_batch(args, 'test_dataloader')
    write_figure(mixed_figure(classifier, images, labels, classes, seed=args.seed, in_memory=in_memory), args.out)
    print(f'Drawn: {args.out}')


if __name__ == '__main__':
    main()
