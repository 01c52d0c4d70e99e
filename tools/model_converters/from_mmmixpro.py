#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Convert a checkpoint of ours for timm, for mmdet's own PVT, or to the layout of the official PVT.

python tools/model_converters/from_mmmixpro.py configs/mixpro/deit-s_8xb128_in1k.py epoch_300.pth deit-s.pth --to timm
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mmmixpro  # noqa: F401  (first: `mmmixpro::` in a config resolves once it is imported)
from mmmixpro.utils.convert_file import from_ours


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert a checkpoint of DeiT, PVT, CaiT or XCiT')
    parser.add_argument('config', help='config that the checkpoint was trained with')
    parser.add_argument('source', help='checkpoint of ours')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument(
        '--to',
        required=True,
        choices=['timm', 'mmdet', 'official'],
        help="timm; mmdet's PyramidVisionTransformer, to be loaded with convert_weights=False; the official PVT",
    )
    parser.add_argument('--allow-unexpected', nargs='+', default=[], help='weights of ours that stay behind')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print(from_ours(args.config, args.source, args.target, args.to, args.allow_unexpected))


if __name__ == '__main__':
    main()
