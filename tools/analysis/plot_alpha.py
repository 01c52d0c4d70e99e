#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Draw alpha, how far attention is trusted, of each image of one mini-batch (Fig. 2b of MixPro).

python tools/analysis/plot_alpha.py CONFIG CHECKPOINT --num 128 --out alpha.svg

The images are those of the config's training set, through its pipeline; the model is in eval mode. How alpha goes over
the epochs (Fig. 2a) is drawn by tools/analysis/plot_pal.py --by-epoch.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mmmixpro  # noqa: F401  (first: `mmmixpro::` in a config resolves once it is imported)
from mmmixpro.apis.batch import load_batch, parse_batch_arguments
from mmmixpro.visualization.figure import write_figure
from mmmixpro.visualization.mixed import batch_alpha
from mmmixpro.visualization.panels import Panel, plot_panels


def main() -> None:
    args = parse_batch_arguments(__doc__, 128, 'alpha.svg')
    batch = load_batch(args, 'train_dataloader')
    alpha = batch_alpha(batch.classifier, batch.images, batch.labels, args.seed)
    points = list(enumerate(alpha, 1))
    panel = Panel('α of each image in a mini-batch', 'image', {'α': points}, marker='o')
    write_figure(plot_panels([panel]), args.out)
    print(f'Mean: {sum(alpha) / len(alpha):.3f}, from {min(alpha):.3f} to {max(alpha):.3f}')
    print(f'Drawn: {args.out}')


if __name__ == '__main__':
    main()
