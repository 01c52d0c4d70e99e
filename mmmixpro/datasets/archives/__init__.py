# Copyright (c) MMMixPro contributors.
"""The folders of a data set in one file each, for disks that are slow with many files: zip and LMDB."""

from .backend import ArchiveBackend
from .lmdb_archive import LmdbArchive, LmdbFolderBackend, LmdbStore
from .store import FolderStore, Store, put
from .zip_archive import ZipArchive, ZipFolderBackend, ZipStore

__all__ = [
    'ArchiveBackend',
    'FolderStore',
    'LmdbArchive',
    'LmdbFolderBackend',
    'LmdbStore',
    'Store',
    'ZipArchive',
    'ZipFolderBackend',
    'ZipStore',
    'put',
]
