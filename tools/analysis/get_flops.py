#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Parameters and FLOPs of the models of Table 1, or of other classifiers, in one table.

python tools/analysis/get_flops.py --model deit-s pvt-s
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmengine import Config
from rich.console import Console
from rich.table import Table

import mmmixpro  # noqa: F401  (first: `mmmixpro::` in a config resolves once it is imported)
from mmmixpro.utils.complexity import count, require_classifier

BASELINES = Path(__file__).resolve().parents[2] / 'configs/baseline'
# Millions of parameters and billions of FLOPs, as published by each model's authors, CA-Swin's by MixPro's.
PUBLISHED = {
    'deit-t': (5.7, 1.3),
    'deit-s': (22.1, 4.6),
    'deit-b': (86.6, 17.6),
    'pvt-t': (13.2, 1.9),
    'pvt-s': (24.5, 3.8),
    'pvt-m': (44.2, 6.7),
    'pvt-l': (61.4, 9.8),
    'cait-xxs24': (12.0, 2.5),
    'cait-xxs36': (17.3, 3.8),
    'xcit-t24': (12, 2.3),
    'xcit-s12': (26, 4.8),
    'xcit-m24': (84, 16.2),
    'xcit-l24': (189, 36.1),
    'ca-swin-t': (28.3, 4.2),
    'ca-swin-s': (49.6, 8.5),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Count parameters and FLOPs')
    parser.add_argument('configs', nargs='*', help='configs of classifiers; without any, the models of Table 1')
    parser.add_argument('--model', nargs='+', choices=PUBLISHED, help='of the models of Table 1, these', metavar='NAME')
    parser.add_argument('--shape', nargs=2, type=pixels, metavar=('H', 'W'), help='of the image, in pixels')
    parser.add_argument('--out', help='write the numbers to this .json file too')
    args = parser.parse_args()
    if args.out and not args.out.endswith('.json'):
        parser.error(f"--out takes a .json file, got '{args.out}'")
    if args.out and not Path(args.out).absolute().parent.is_dir():
        parser.error(f"--out takes a file in a folder that exists, got '{args.out}'")
    names = args.model or ([] if args.configs else list(PUBLISHED))
    wanted = {name: BASELINES / f'{name}_8xb128_in1k.py' for name in names}
    wanted.update({path: Path(path) for path in args.configs})
    args.models = {}
    for name, path in wanted.items():
        if not path.is_file():
            parser.error(f"found no config '{path}'")
        args.models[name] = Config.fromfile(path).get('model')
        try:
            require_classifier(args.models[name])
        except ValueError as error:
            parser.error(f'{path}: {error}')
    return args


def pixels(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'expected a number of pixels, at least 1, got {text}')
    return number


def show(found: list[dict]) -> None:
    """Print the table."""
    table = Table(title='FLOPs are multiplications with additions, attention among them')
    # Where there is little room, such as in a pipe, in several lines.
    table.add_column('model', overflow='fold')
    table.add_column('image')
    for column in ('params (M)', 'FLOPs (G)', 'published params (M)', 'published FLOPs (G)'):
        table.add_column(column, justify='right')
    for row in found:
        params, flops = map(str, PUBLISHED.get(row['model'], ('', '')))
        published = [params, flops if row['shape'] == [224, 224] else '']
        size = ' x '.join(map(str, row['shape']))
        table.add_row(row['model'], size, f'{row["params"] / 1e6:.2f}', f'{row["flops"] / 1e9:.2f}', *published)
    Console().print(table)


def main() -> None:
    args = parse_args()
    shape = tuple(args.shape) if args.shape else None
    found = [dict(model=name, **count(model, shape)) for name, model in args.models.items()]
    show(found)
    if args.out:
        Path(args.out).write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
    main()
