# Copyright (c) MMMixPro contributors.
"""Zip archives without compression, which images have already."""

import os
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO

import numpy as np
from mmengine.fileio import register_backend

from .backend import ArchiveBackend
from .store import Store

# What stands before each member: signature, version, flags, compression, time, date, CRC, sizes in the archive and
# of the file, lengths of the name and of the extra field that follow. APPNOTE.TXT of PKWARE, 4.3.7.
_HEADER = Struct('<4s5H3I2H')
_SIGNATURE = b'PK\x03\x04'


class ZipArchive:
    """Reads members of a zip archive, in any process that has it.

    The place of each member is kept in arrays, 60 MB for ImageNet's training set, that forked workers share. Each
    process has a file handle of its own.

    Args:
        path: The archive.

    Raises:
        ValueError: If it is no zip archive, or one with compression.
    """

    def __init__(self, path: str):
        self.path = path
        try:
            with zipfile.ZipFile(path) as file:
                infos = [info for info in file.infolist() if not info.is_dir()]
        except zipfile.BadZipFile as error:
            raise ValueError(
                f"'{path}' is no whole zip archive ({error}). Remove it and write it again, or copy it again."
            ) from None
        packed = next((info for info in infos if info.compress_type != zipfile.ZIP_STORED), None)
        if packed is not None:
            raise ValueError(
                f"Expected '{path}' without compression, which costs time and gains nothing for images; found "
                f"'{packed.filename}' compressed. Write it with `zip -0`, or with tools/dataset_converters/imagenet.py."
            )
        names = np.array([info.filename.encode() for info in infos], dtype='S')
        order = np.argsort(names, kind='stable')
        self.names = names[order]
        self.offsets = np.array([info.header_offset for info in infos], np.int64)[order]
        self.sizes = np.array([info.file_size for info in infos], np.int64)[order]
        self.crcs = np.array([info.CRC for info in infos], np.uint32)[order]
        self.file: BinaryIO | None = None
        self.pid = -1

    def read(self, name: str) -> bytes:
        """The content of a member.

        Raises:
            FileNotFoundError: If there is no such member.
            ValueError: If its checksum is not the archive's.
        """
        at = bisect_left(self.names, name.encode())
        if at == len(self.names) or self.names[at] != name.encode():
            raise FileNotFoundError(f"'{self.path}' has {len(self.names)} files, none of them '{name}'.")
        file = self._own_file()
        file.seek(self.offsets[at])
        *_, name_length, extra_length = _HEADER.unpack(file.read(_HEADER.size))
        file.seek(name_length + extra_length, os.SEEK_CUR)
        content = file.read(self.sizes[at])
        if zlib.crc32(content) != self.crcs[at]:
            raise ValueError(
                f"'{name}' in '{self.path}' is damaged: its checksum is {zlib.crc32(content):08x}, that of the "
                f'archive {self.crcs[at]:08x}. Copy or write the archive again.'
            )
        return content

    def _own_file(self) -> BinaryIO:
        # Of a handle that two processes share, each would move the other's position.
        if self.file is None or self.pid != os.getpid():
            self.file = open(self.path, 'rb')  # noqa: SIM115 (open as long as the process reads)
            self.pid = os.getpid()
        return self.file


@register_backend('mmmixpro.zip', prefixes='zip')
class ZipFolderBackend(ArchiveBackend):
    """``zip://data/imagenet/train/...`` is in ``data/imagenet/train.zip``; see :class:`ArchiveBackend`."""

    scheme = 'zip'

    def open(self, path: str) -> ZipArchive:
        """Open a zip archive."""
        return ZipArchive(path)


class ZipStore(Store):
    """Writes a zip archive, without compression; equal files in equal order give equal bytes.

    A zip archive has its list of members at the end, which one that was not finished lacks. What stands before each
    member is enough to go on: whole members are kept, the last is checked, and what follows is cut off.
    """

    def __init__(self, target: str | Path, source: Any = None):
        super().__init__(target, source)
        self.file = open(self.partial, 'r+b' if self.partial.exists() else 'w+b')  # noqa: SIM115 (until close)
        infos = list(_whole_members(self.file))
        end = _end(infos[-1]) if infos else 0
        self.file.seek(end)
        self.file.truncate()
        # Given an open file, it writes from where that stands.
        self.zip = zipfile.ZipFile(self.file, 'w')
        self.zip.filelist.extend(infos)
        self.zip.NameToInfo.update({info.filename: info for info in infos})

    def __contains__(self, name: str) -> bool:
        return name in self.zip.NameToInfo

    def write(self, name: str, content: bytes) -> None:
        self.zip.writestr(_info(name), content)

    def names(self) -> list[str]:
        return self.zip.namelist()

    def read(self, name: str) -> bytes:
        return self.zip.read(name)

    def close(self, done: bool) -> None:
        if done:
            self.zip.close()
            self.file.flush()
            os.fsync(self.file.fileno())
        self.file.close()
        # Else it would write the list of members when it is collected.
        self.zip.fp = None


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o644 << 16  # may be read by all where it is unpacked
    return info


def _whole_members(file: BinaryIO) -> Iterator[zipfile.ZipInfo]:
    """The members that :class:`ZipStore` has written to the end, from the first on."""
    size = os.fstat(file.fileno()).st_size
    last = None
    offset = 0
    while True:
        file.seek(offset)
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            break
        signature, _, _, _, _, _, crc, stored, length, name_length, _ = _HEADER.unpack(head)
        name = file.read(name_length)
        info = _info(name.decode(errors='replace'))
        info.header_offset, info.CRC, info.compress_size, info.file_size = offset, crc, stored, length
        # Sizes and checksum are filled in once the content is written.
        if signature != _SIGNATURE or len(name) < name_length or stored != length or _end(info) > size:
            break
        if last is not None:
            yield last
        last, offset = info, _end(info)
    if last is not None:
        file.seek(_end(last) - last.file_size)
        if zlib.crc32(file.read(last.file_size)) == last.CRC:
            yield last


def _end(info: zipfile.ZipInfo) -> int:
    return info.header_offset + _HEADER.size + len(info.filename.encode()) + info.file_size
