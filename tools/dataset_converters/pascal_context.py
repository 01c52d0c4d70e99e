#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Masks and lists of Pascal Context, 60 classes, as mmseg reads them; then checked. Without the Detail API.

python tools/dataset_converters/pascal_context.py data/VOCdevkit/VOC2010

VOC2010 is unpacked from VOCtrainval_03-May-2010.tar and holds trainval_merged.json (or --annotations names it).
It writes SegmentationClassContext/*.png, 0 background and 1 to 59 the classes, and the lists of both splits. For
59 classes mmseg's PascalContextDataset59 reads the same masks. Stopped, the same command goes on where it was.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmmixpro.datasets.preparation.pascal_context import prepare_pascal_context


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', help='the folder VOC2010: $PASCAL_CONTEXT_ROOT')
    parser.add_argument('--annotations', help='default: trainval_merged.json in VOC2010')
    parser.add_argument(
        '--subset', action='store_true', help='accept a part of Pascal Context: skip the official counts'
    )
    parser.add_argument('--decode', type=int, default=200, help='images to decode and masks to compare (%(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print(*prepare_pascal_context(args.root, args.annotations, not args.subset, args.decode), sep='\n')


if __name__ == '__main__':
    main()
