# Copyright (c) MMMixPro contributors.
"""ImageNet-1k (ILSVRC 2012), from the official downloads or a folder, to a folder, zip or LMDB per split."""

import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
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
    ``<wnid>/*.JPEG`` in it. It gets its name once it is whole and checked; a run that was stopped is continued, unless
    the source has changed since. A folder that is laid out already is checked and linked to, not copied.

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
        devkit = DevKit(source / DEVKIT) if (source / DEVKIT).is_file() else None
        for split, target in missing.items():
            check = partial(_check, split=split, devkit=devkit, official=official, num_decoded=num_decoded)
            _write(sources[split], target, layout, check, IMAGES[split] if official else None)
        # What is there by now, through what reads it in training.
        return [check_split(out, split, layout, devkit, official, num_decoded) for split in splits]


def _check_md5(source: Path, names: list[str], out: Path) -> None:
    for path in (source / name for name in names):
        if path.is_file():
            check_md5(path, MD5[path.name], out / '.md5.json')


def _write(source: Source, target: Path, layout: str, check: Callable[..., str], total: int | None) -> None:
    if layout == 'folder' and source.laid_out is not None:
        root = str(source.laid_out.absolute())
        check(root, *_reader(root), mend='Mend the folder, then run the same command again.')
        target.symlink_to(root, target_is_directory=True)
        return
    try:
        with STORES[layout](target, source.state()) as store:
            names = set()
            for name, read in progress(source.images(), f'{source.split} to {target.name}', total):
                names.add(name)
                if name not in store:
                    store.write(name, read())
            check(
                str(source.path),
                store.names(),
                store.read,
                expected=names,
                mend='Download or copy it again, then run the same command again, which begins anew with what has '
                f"changed. If it is whole, remove '{store.partial}' first.",
            )
    except tarfile.TarError as error:
        raise ValueError(
            f"'{source.path}' is broken or cut short: {error}. Download it again, then run the same command again."
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
    mend = (
        f"Remove '{out / split}{'' if layout == 'folder' else '.' + layout}' and run the same command again; if it was "
        'made of a folder, mend that first.'
    )
    return _check(root, *_reader(root), split, mend, devkit, official, num_decoded)


def _reader(root: str) -> tuple[list[str], Callable[[str], bytes]]:
    """The images in a folder or archive, and what reads them."""
    backend = get_file_backend(root)
    names = [
        f'{wnid}/{image}'
        for wnid in backend.list_dir_or_file(root, list_dir=True, list_file=False)
        for image in backend.list_dir_or_file(f'{root}/{wnid}', list_dir=False, list_file=True)
    ]
    return names, lambda name: backend.get(f'{root}/{name}')


def _check(
    root: str,
    names: list[str],
    read: Callable[[str], bytes],
    split: str,
    mend: str,
    devkit: DevKit | None,
    official: bool,
    num_decoded: int,
    expected: Collection[str] | None = None,
) -> str:
    names = sorted(names)
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
    if expected is not None:
        problems['images that the source has not'] = sorted(set(names).difference(expected))
        problems['images that only the source has'] = sorted(set(expected).difference(names))
    problems['broken images'] = []
    chosen = sample(names, num_decoded)
    for name in progress(chosen, f'decoding images of {split}'):
        try:
            decode(read(name))
        except ValueError as error:
            problems['broken images'].append(f'{name} ({error})')
    fail(f"'{root}'", problems, f'{mend} For a part of ImageNet add --subset.')
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
