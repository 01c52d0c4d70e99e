#!/usr/bin/env python
# Copyright (c) MMMixPro contributors.
"""ImageNet-1k from the official downloads, or a folder, to what the configs read; then checked.

python tools/dataset_converters/imagenet.py DOWNLOADS --out data/imagenet
IMAGENET_ROOT=data/imagenet tools/dist_train.sh configs/mixpro/deit-s_8xb128_in1k.py 8

On disks that are slow with a million files, one file for each split, straight from the downloads:

python tools/dataset_converters/imagenet.py DOWNLOADS --out data/imagenet --format zip
IMAGENET_ROOT=zip://data/imagenet tools/dist_train.sh configs/mixpro/deit-s_8xb128_in1k.py 8

DOWNLOADS holds ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz of image-net.org, or
train/<wnid>/*.JPEG and val/<wnid>/*.JPEG (validation images without folders need the devkit beside them). Stopped, the
same command goes on where it was, or begins anew what is made of downloads that have changed since; run again, it only
checks. The archives are compared with their MD5 sums, once.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmmixpro.datasets.preparation.imagenet import STORES, prepare_imagenet


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='folder of the downloads, or of train/ and val/')
    parser.add_argument('--out', required=True, help='folder to write: $IMAGENET_ROOT')
    parser.add_argument('--format', choices=sorted(STORES), default='folder', help='default: %(default)s')
    parser.add_argument('--splits', nargs='+', choices=('train', 'val'), default=('train', 'val'), help='default: both')
    parser.add_argument(
        '--subset', action='store_true', help='accept a part of ImageNet: skip the official counts and MD5 sums'
    )
    parser.add_argument('--no-md5', action='store_true', help='do not read the archives once more for their MD5 sums')
    parser.add_argument('--decode', type=int, default=1000, help='images of each split to decode (%(default)s)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    splits = tuple(dict.fromkeys(args.splits))
    for line in prepare_imagenet(
        args.source, args.out, args.format, splits, not args.subset, not args.no_md5, args.decode
    ):
        print(line)


if __name__ == '__main__':
    main()
