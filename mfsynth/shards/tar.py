"""Plain USTAR archives whose bytes are a function of their members.

`tarfile` writes the headers; we write the file, because the index needs every offset.
"""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from typing import BinaryIO

_BLOCK = tarfile.BLOCKSIZE
_RECORD = tarfile.RECORDSIZE


@dataclass(frozen=True, slots=True)
class Span:
    """Where the bytes of a member lie in the tar, and their CRC-32 (unsigned)."""

    offset: int
    size: int
    crc32: int


class TarWriter:
    """Appends members to a binary file: mtime, uid and gid 0, mode 0644, no names of people."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0

    def add(self, name: str, data: bytes) -> Span:
        """Append a member.

        Raises:
            ValueError: The name is longer than USTAR can hold.
        """
        info = tarfile.TarInfo(name)
        info.size = len(data)
        header = info.tobuf(tarfile.USTAR_FORMAT)
        span = Span(self._position + len(header), len(data), zlib.crc32(data))
        self._write(header)
        self._write(data)
        self._write(bytes(-len(data) % _BLOCK))
        return span

    def finish(self) -> None:
        """Write the end of the archive; without it the file is recognisably truncated."""
        self._write(bytes(2 * _BLOCK))
        self._write(bytes(-self._position % _RECORD))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._position += len(data)
