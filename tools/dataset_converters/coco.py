#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Check that COCO 2017 is whole: counts, every image that is listed, a sample decoded, annotations. Writes nothing.

python tools/dataset_converters/coco.py data/coco

The folder, $COCO_ROOT, holds train2017/, val2017/ and annotations/instances_{train,val}2017.json.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmmixpro.datasets.preparation.coco import check_coco


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', help='folder of COCO: $COCO_ROOT')
    parser.add_argument('--splits', nargs='+', choices=('train', 'val'), default=('train', 'val'), help='default: both')
    parser.add_argument('--subset', action='store_true', help='accept a part of COCO: skip the official counts')
    parser.add_argument('--decode', type=int, default=500, help='images of each split to decode (default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print(*check_coco(args.root, tuple(dict.fromkeys(args.splits)), not args.subset, args.decode), sep='\n')


if __name__ == '__main__':
    main()
