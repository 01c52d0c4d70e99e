#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""Write the weights of a training checkpoint alone, with what is known of them, as .pth and as .safetensors.

python tools/export_backbone.py configs/mixpro/deit-s_8xb128_in1k.py work_dirs/.../epoch_300.pth deit-s.safetensors
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmmixpro  # noqa: F401  (first: `mmmixpro::` in a config resolves once it is imported)
from mmmixpro.utils.export import PARTS, export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the config that the checkpoint was trained by')
    parser.add_argument('checkpoint', help='of its run; with EMAHook, the averaged weights are taken')
    parser.add_argument('targets', nargs='+', metavar='target', help='a file to write, .pth or .safetensors')
    parser.add_argument(
        '--part',
        choices=PARTS,
        default='backbone',
        help='the classifier has neck and head besides; default: %(default)s',
    )
    args = parser.parse_args()
    print(export(args.config, args.checkpoint, args.targets, args.part))
    print(f'Written: {", ".join(args.targets)}')


if __name__ == '__main__':
    main()
