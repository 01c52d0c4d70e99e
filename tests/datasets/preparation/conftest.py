# Copyright (c) MMMixPro contributors.
import miniatures
import pytest
from mmengine.fileio import get_file_backend


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """The official downloads; where they go is ``tmp_path / 'out'``."""
    folder = tmp_path / 'downloads'
    miniatures.write_imagenet_downloads(folder)
    miniatures.publish_imagenet(folder, monkeypatch)
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'out'


@pytest.fixture
def content(out):
    """The files of a split by name."""

    def content(split, layout):
        root = str(out / split) if layout == 'folder' else f'{layout}://{out / split}'
        backend = get_file_backend(root)
        names = backend.list_dir_or_file(root, list_dir=False, recursive=True)
        return {name: backend.get(f'{root}/{name}') for name in names}

    return content


@pytest.fixture
def visible(out):
    """What stands in the folder, without what is hidden."""

    def visible():
        return sorted(path.name for path in out.iterdir() if not path.name.startswith('.')) if out.is_dir() else []

    return visible
