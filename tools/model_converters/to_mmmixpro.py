#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Convert a checkpoint of timm, or of a model's official code, for the model of a config of ours.

python tools/model_converters/to_mmmixpro.py configs/baseline/pvt-s_8xb128_in1k.py pvt_small.pth work_dirs/pvt-s.pth
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mmmixpro  # noqa: F401  (first: `mmmixpro::` in a config resolves once it is imported)
from mmmixpro.utils.convert_file import to_ours


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert a checkpoint of DeiT, PVT, CaiT, XCiT or Swin')
    parser.add_argument('config', help='config of a classifier with that model')
    parser.add_argument('source', help='checkpoint of timm, of the official code or of SMMix')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument('--allow-missing', nargs='+', default=[], help='weights of ours that the source may lack')
    parser.add_argument('--allow-unexpected', nargs='+', default=[], help='weights of the source that stay behind')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print(to_ours(args.config, args.source, args.target, args.allow_missing, args.allow_unexpected))


if __name__ == '__main__':
    main()
