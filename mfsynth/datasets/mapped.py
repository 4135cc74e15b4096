"""Indexes in files that are mapped into memory: opened at once, shared by all processes.

A large index is read from the store once, and kept as an Arrow file in the user's cache folder,
under the digest of what it was made of. To send it to another process is to send the file's name.
Files that nobody has open go, the least used first, when they are too many, or old.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mfsynth.errors import MfsynthError
from mfsynth.storage.exclusive import PART_SUFFIX
from mfsynth.storage.local_cache import cache_folder, remove_left_parts

MIN_ROWS = 50_000
"""Smaller indexes are kept in memory: to read them again costs no second."""

_FORGOTTEN_S = 60 * 24 * 3600
_MOST_BYTES = 20 * 10**9
_SUFFIX, _CHECKSUM = ".arrow", ".crc32"


class Index:
    """A table, by columns and by rows.

    Args:
        table: Its rows.
        path: Of the Arrow file that they are mapped from; None for others.
        parts: The indexes of whose memory they are; none for others.
        use: Keeps the file in its place as long as the index lives.
    """

    def __init__(
        self,
        table: pa.Table,
        path: Path | None = None,
        parts: Sequence[Index] = (),
        use: _Use | None = None,
    ) -> None:
        self.table = table
        self._use = use
        self._path, self._parts = path, parts
        self._batches = table.to_batches()
        self._ends = [*accumulate(batch.num_rows for batch in self._batches)]
        self._columns: dict[int, _Columns] = {}

    def __reduce__(self) -> tuple[Callable[..., Index], tuple[Any, ...]]:
        if self._path is not None and self._path.exists():
            return _map, (str(self._path),)
        if self._parts:
            return joined, (self._parts, self.table.schema)
        return Index, (self.table,)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def row(self, number: int) -> dict[str, Any]:
        """The values of a row by column."""
        at = bisect_right(self._ends, number)
        columns = self._columns.get(at)
        if columns is None:
            columns = self._columns[at] = _Columns(self._batches[at])
        return columns.row(number - (self._ends[at] - self._batches[at].num_rows))


class _Use:
    """A file that nobody removes as long as this lives, here or in a process forked since."""

    def __init__(self, path: Path) -> None:
        # Not on Windows, where there is no cache.
        from mfsynth.storage.locks import share

        self._descriptor = share(path)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)


class _Columns:
    """Columns of a batch; values are taken from its memory, ten times as fast as by Arrow."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._nothing = dict.fromkeys(batch.schema.names)
        self._numbers: dict[str, Callable[[int], Any]] = {}
        self._texts: dict[str, tuple[Callable[[int], int], memoryview]] = {}
        self._others: dict[str, pa.Array] = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            kind = column.type
            if column.null_count == len(column):
                continue
            if column.null_count:
                self._others[name] = column
            elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
                self._numbers[name] = column.to_numpy().item
            elif pa.types.is_string(kind):
                _, ends, text = column.buffers()
                at = np.frombuffer(ends, np.int32)[column.offset :].item
                self._texts[name] = at, memoryview(text or b"")
            else:
                self._others[name] = column

    def row(self, place: int) -> dict[str, Any]:
        row = self._nothing.copy()
        for name, value in self._numbers.items():
            row[name] = value(place)
        for name, (at, text) in self._texts.items():
            row[name] = str(text[at(place) : at(place + 1)], "utf-8")
        for name, column in self._others.items():
            row[name] = column[place].as_py()
        return row


def joined(indexes: Sequence[Index], schema: pa.Schema) -> Index:
    """Several indexes as one, of the same memory.

    Args:
        indexes: Their rows follow each other.
        schema: Of the whole; a column that one lacks is null in its rows.
    """
    tables = [_with_all_columns(index.table, schema) for index in indexes]
    return Index(pa.concat_tables(tables), parts=indexes)


def _with_all_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table.column(field.name)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def mapped(digest: str, pieces: Callable[[], Iterable[pa.Table]]) -> Index:
    """The index that a digest stands for, out of the cache, or else made of its pieces.

    Args:
        digest: Of all that decides the rows.
        pieces: Gives the rows in order, in tables of one schema; at least one.

    Raises:
        MfsynthError: What `pieces` raises.
    """
    folder = cache_folder("indexes")
    if folder is None:
        return Index(pa.concat_tables([*pieces()]))
    path = folder / f"{digest}{_SUFFIX}"
    with contextlib.suppress(OSError, pa.ArrowException, ValueError):
        use = _Use(path)
        if _checksum(path) == path.with_suffix(_CHECKSUM).read_text():
            os.utime(path)
            return _map(str(path), use)
    try:
        use = _write(path, pieces())
    except OSError:
        # The disk is full, or the like: then without.
        return Index(pa.concat_tables([*pieces()]))
    _forget(folder)
    remove_left_parts(folder)
    return _map(str(path), use)


def _map(path: str, use: _Use | None = None) -> Index:
    try:
        use = use or _Use(Path(path))
        file = pa.memory_map(path)
    except OSError as error:
        raise MfsynthError(
            f"{path}: the index of the data set is not there any more, or this is another "
            "machine; open the data set here"
        ) from error
    # Kept open by the table's buffers.
    return Index(pa.ipc.open_file(file).read_all(), Path(path), use=use)


def _write(path: Path, pieces: Iterable[pa.Table]) -> _Use:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        writer: pa.RecordBatchFileWriter | None = None
        for piece in pieces:
            writer = writer or pa.ipc.new_file(str(part), piece.schema)
            writer.write_table(piece.combine_chunks())
        assert writer is not None
        writer.close()
        checksum, use = _checksum(part), _Use(part)
        part.replace(path)
        path.with_suffix(_CHECKSUM).write_text(checksum)
        return use
    finally:
        part.unlink(missing_ok=True)


def _checksum(path: Path) -> str:
    """So that a file of a disk that was full, or is failing, is not taken for an index."""
    checksum = 0
    with path.open("rb") as file:
        while data := file.read(1 << 22):
            checksum = zlib.crc32(data, checksum)
    return f"{path.stat().st_size} {checksum:08x}"


def _forget(folder: Path) -> None:
    """Remove what is old, and of the rest what is too much: never what somebody has open.

    Where a file system has no locks, nobody knows what is open: then only what is old goes.
    """
    from mfsynth.storage.locks import remove_unused

    found = []
    for path in folder.iterdir():
        # Another process may remove it.
        with contextlib.suppress(OSError):
            status = path.stat()
            if path.suffix == _SUFFIX:
                found.append((status.st_mtime, status.st_size, path))
            elif _is_old(status.st_mtime) and _is_alone(path):
                path.unlink()
    excess = sum(size for _, size, _ in found) - _MOST_BYTES
    for used, size, path in sorted(found):
        if excess <= 0 and not _is_old(used):
            break
        with contextlib.suppress(OSError):
            if remove_unused(path, is_old=_is_old(used)):
                excess -= size
                path.with_suffix(_CHECKSUM).unlink(missing_ok=True)


def _is_alone(path: Path) -> bool:
    """Whether it is the checksum of an index that isn't there."""
    return path.suffix == _CHECKSUM and not path.with_suffix(_SUFFIX).exists()


def _is_old(used: float) -> bool:
    return time.time() - used > _FORGOTTEN_S


def groups(numbers: Sequence[int], size: int = 1024) -> list[slice]:
    """Slices of shards in rising order, such that each is within one range of `size` shards."""
    bounds = [i for i in range(1, len(numbers)) if numbers[i] // size != numbers[i - 1] // size]
    starts = [0, *bounds]
    return [slice(start, stop) for start, stop in zip(starts, [*bounds, len(numbers)], strict=True)]
