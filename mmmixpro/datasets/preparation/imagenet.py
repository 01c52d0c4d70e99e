# Copyright (c) MMMixPro contributors.
"""ImageNet-1k (ILSVRC 2012), from the official downloads or a folder, to a folder, zip or LMDB per split."""

import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mmengine.fileio import get_file_backend

from ..archives import FolderStore, LmdbStore, Store, ZipStore
from .common import alone, check_md5, decode, fail, progress, sample
from .imagenet_sources import DEVKIT, TARS, DevKit, Source, find_source

# Published with the downloads; also in torchvision.datasets.imagenet.
MD5 = {
    'ILSVRC2012_img_train.tar': '1d675b47d978889d74fa0da5fadfb00e',
    'ILSVRC2012_img_val.tar': '29b22e2961454d5413ddabcf34fc5622',
    DEVKIT: 'fa75699e90414af021442c21a62c3abf',
}
IMAGES = dict(train=1281167, val=50000)
CLASSES = 1000
STORES: dict[str, type[Store]] = dict(folder=FolderStore, zip=ZipStore, lmdb=LmdbStore)


def prepare_imagenet(
    source: str | Path,
    out: str | Path,
    layout: str = 'folder',
    splits: tuple[str, ...] = ('train', 'val'),
    official: bool = True,
    md5: bool = True,
    num_decoded: int = 1000,
) -> list[str]:
    """Write the splits of ImageNet that are not there yet, and check all of them.

    Each split is a folder ``out/<split>/<wnid>/*.JPEG`` or an archive ``out/<split>.zip`` or ``.lmdb`` with
    ``<wnid>/*.JPEG`` in it. It gets its name once it is whole; a run that was stopped is gone on with. A folder that is
    laid out already is linked to, not copied.

    Args:
        source: Folder with ``ILSVRC2012_img_train.tar``, ``ILSVRC2012_img_val.tar`` and the devkit, or with
            ``train/<wnid>/`` and ``val/<wnid>/``; validation images may also lie in ``val/`` itself, with the devkit
            beside it.
        out: Folder to write to.
        layout: ``'folder'``, ``'zip'`` or ``'lmdb'``.
        splits: Of ``'train'`` and ``'val'``.
        official: Whether it must be all of ImageNet-1k; False for a part of it.
        md5: Whether to compare the MD5 sums of official downloads before they are read.
        num_decoded: How many images of each split to decode to the last pixel, spread at random.

    Returns:
        list[str]: A line on each split.

    Raises:
        FileNotFoundError: If something needed is missing.
        ImportError: For ``'lmdb'`` without that package.
        RuntimeError: If another process writes to ``out``.
        ValueError: If something is broken or incomplete.
    """
    source, out = Path(source).expanduser(), Path(out).expanduser()
    if layout not in STORES:
        raise ValueError(f'Expected a layout of {sorted(STORES)}, found {layout!r}.')
    with alone(out):
        targets = {split: out / (split if layout == 'folder' else f'{split}.{layout}') for split in splits}
        missing = {split: target for split, target in targets.items() if not target.exists()}
        # What can be wrong first, for the work takes hours.
        STORES[layout].require()
        checked = official and md5 and missing
        if checked:
            _check_md5(source, [DEVKIT], out)
        sources = {split: find_source(source, split) for split in missing}
        if checked:
            _check_md5(source, [TARS[split] for split in missing], out)
        for split, target in missing.items():
            _write(sources[split], target, layout, IMAGES[split] if official else None)
        devkit = DevKit(source / DEVKIT) if (source / DEVKIT).is_file() else None
        return [check_split(out, split, layout, devkit, official, num_decoded) for split in splits]


def _check_md5(source: Path, names: list[str], out: Path) -> None:
    for path in (source / name for name in names):
        if path.is_file():
            check_md5(path, MD5[path.name], out / '.md5.json')


def _write(source: Source, target: Path, layout: str, total: int | None) -> None:
    if layout == 'folder' and source.laid_out is not None:
        target.symlink_to(source.laid_out.absolute(), target_is_directory=True)
        return
    try:
        with STORES[layout](target) as store:
            num = 0
            for name, read in progress(source.images(), f'{source.split} to {target.name}', total):
                num += 1
                if name not in store:
                    store.write(name, read())
            if total is not None and num != total:
                raise ValueError(
                    f"Expected {total} images in '{source.path}', found {num}. Download or copy it again; the same "
                    'command then goes on where it stopped. For a part of ImageNet add --subset.'
                )
    except tarfile.TarError as error:
        raise ValueError(
            f"'{source.path}' is broken or cut short: {error}. Download it again; the same command then goes on where "
            'it stopped.'
        ) from None


def check_split(
    out: Path, split: str, layout: str, devkit: DevKit | None = None, official: bool = True, num_decoded: int = 1000
) -> str:
    """Count the images of each class and decode some, through what reads them in training.

    Args:
        out: Folder of the splits.
        split: ``'train'`` or ``'val'``.
        layout: ``'folder'``, ``'zip'`` or ``'lmdb'``.
        devkit: Tells which images, or how many, each class has.
        official: Whether it must be all of ImageNet-1k.
        num_decoded: How many images to decode.

    Returns:
        str: What was found.

    Raises:
        ValueError: If images are missing, too many or broken.
    """
    root = str(out / split) if layout == 'folder' else f'{layout}://{out / split}'
    backend = get_file_backend(root)
    names = sorted(
        f'{wnid}/{image}'
        for wnid in backend.list_dir_or_file(root, list_dir=True, list_file=False)
        for image in backend.list_dir_or_file(f'{root}/{wnid}', list_dir=False, list_file=True)
    )
    counts = Counter(name.partition('/')[0] for name in names)
    problems: dict[str, list[str]] = {'images': [], 'classes': []}
    if not names:
        problems['images'].append('none in folders of classes')
    if official and len(names) != IMAGES[split]:
        problems['images'].append(f'expected {IMAGES[split]}, found {len(names)}')
    if official and len(counts) != CLASSES:
        problems['classes'].append(f'expected {CLASSES}, found {len(counts)}')
    if official and devkit is not None:
        problems.update(_COMPARED[split](devkit, names, counts))
    problems['broken images'] = []
    chosen = sample(names, num_decoded)
    for name in progress(chosen, f'decoding images of {split}'):
        try:
            decode(backend.get(f'{root}/{name}'))
        except ValueError as error:
            problems['broken images'].append(f'{name} ({error})')
    fail(
        f"'{root}'",
        problems,
        f"Remove '{out / split}{'' if layout == 'folder' else '.' + layout}' and run the same command again; if it was "
        'made of a folder, mend that first. For a part of ImageNet add --subset.',
    )
    return f'{root}: {len(names)} images of {len(counts)} classes; {len(chosen)} decoded'


def _compare_train(devkit: DevKit, names: list[str], counts: Mapping[str, int]) -> dict[str, list[str]]:
    if len(names) == IMAGES['train']:
        return {}
    expected = devkit.train_counts
    return {
        'classes with other numbers of images': [
            f'{wnid} (expected {expected.get(wnid, 0)}, found {counts.get(wnid, 0)})'
            for wnid in sorted({*counts, *expected})
            if counts.get(wnid, 0) != expected.get(wnid, 0)
        ]
    }


def _compare_val(devkit: DevKit, names: list[str], counts: Mapping[str, int]) -> dict[str, list[str]]:
    expected = set(devkit.val_names())
    return {
        'missing images': sorted(expected.difference(names)),
        'images that should not be there': sorted(set(names) - expected),
    }


_COMPARED = dict(train=_compare_train, val=_compare_val)
