"""Rows of Parquet and Arrow files, in parts."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.sources.guards import decoding, require_few
from mfsynth.sources.trees import LocalTree, Tree

_REMEDY = "restore it, or leave it out"
# Of parts that stay in memory in a process: of images and of depth, and those that come next.
_PARTS = 4


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file of rows, which come in parts: Parquet's row groups, Arrow's batches.

    Attributes:
        tree: The folder that it lies in.
        name: Of it there; `.parquet`, or what `datasets` saves, `.arrow`.
    """

    tree: Tree
    name: str

    @property
    def told(self) -> str:
        """Its full name, for messages."""
        return self.tree.told(self.name)

    def schema(self) -> pa.Schema:
        """Its columns.

        Raises:
            MfsynthError: It can't be read.
        """
        with decoding(self.told, "a table", _REMEDY):
            if self._is_arrow:
                return _stream(self)[0]
            with pq.ParquetFile(self.tree.open(self.name)) as file:
                return file.schema_arrow

    def counts(self) -> list[int]:
        """How many rows each part has.

        Raises:
            MfsynthError: It can't be read, or has more than `Limit.ROWS`.
        """
        with decoding(self.told, "a table", _REMEDY):
            if self._is_arrow:
                found = [batch.num_rows for batch in _stream(self)[1]]
            else:
                with pq.ParquetFile(self.tree.open(self.name)) as file:
                    about = file.metadata
                    parts = range(about.num_row_groups)
                    found = [about.row_group(part).num_rows for part in parts]
        if sum(found) > Limit.ROWS.most:
            raise Limit.ROWS.refusal(self.told, f"{sum(found)} rows")
        return found

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Small columns of all rows.

        Raises:
            MfsynthError: It can't be read.
        """
        with decoding(self.told, "a table", _REMEDY):
            if self._is_arrow:
                schema, batches = _stream(self)
                return pa.Table.from_batches(batches, schema).select(list(names))
            with pq.ParquetFile(self.tree.open(self.name)) as file:
                return file.read(list(names))

    def row(self, part: int, row: int, names: tuple[str, ...]) -> dict[str, pa.Scalar]:
        """Cells of a row.

        Args:
            part: Which part it is in.
            row: Its number there.
            names: Of the columns.

        Raises:
            MfsynthError: It can't be read.
        """
        with decoding(self.told, "a table", _REMEDY):
            table = _stream(self)[1][part] if self._is_arrow else _part(self, part, names)
            return {name: table.column(name)[row] for name in names}

    @property
    def _is_arrow(self) -> bool:
        return self.name.lower().endswith(".arrow")


@functools.lru_cache(maxsize=_PARTS)
def _part(file: TableFile, part: int, names: tuple[str, ...]) -> pa.Table:
    with pq.ParquetFile(file.tree.open(file.name)) as parquet:
        size = parquet.metadata.row_group(part).total_byte_size
        if size > Limit.BYTES.most:
            raise Limit.BYTES.refusal(file.told, f"a row group of {size} bytes")
        return parquet.read_row_group(part, list(names))


@functools.lru_cache(maxsize=_PARTS)
def _stream(file: TableFile) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Of a local file, views of what is on the disk."""
    if isinstance(file.tree, LocalTree):
        stream: Any = pa.memory_map(os.fsencode(file.tree.root / file.name))
    else:
        stream = pa.py_buffer(file.tree.read(file.name))
    with pa.ipc.open_stream(stream) as reader:
        return reader.schema, list(reader)


def cell_of(cell: pa.Scalar, name: str) -> Any:
    """What a cell holds: a file's bytes, numbers as an array, or Python's own; None of none.

    Args:
        cell: Of a column of files (bytes, or as `datasets.Image` has them), of lists, or of values.
        name: Of it, for the error message.

    Raises:
        MfsynthError: It names a file that isn't in the table, or is no array.
    """
    if isinstance(cell, pa.ExtensionScalar):
        cell = cell.value
    if cell is None or not cell.is_valid:
        return None
    if pa.types.is_struct(cell.type) and "bytes" in {field.name for field in cell.type}:
        inner = cell["bytes"]
        if not inner.is_valid:
            raise MfsynthError(
                f"{name}: holds only the path of a file; save the data set with its files in it"
            )
        return inner.as_py()
    if _is_list(cell.type):
        with decoding(name, "an array", _REMEDY):
            return _array(cell.values)
    return cell.as_py()


def holds_files(column: pa.Field) -> bool:
    """Whether cells of a column are files: bytes, or as `datasets.Image` has them."""
    kind = column.type
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return bool(is_bytes or pa.types.is_struct(kind))


def _array(values: pa.Array) -> Any:
    shape, ragged = [len(values)], False
    while _is_list(values.type):
        lengths = pc.unique(pc.list_value_length(values))
        ragged = ragged or values.null_count > 0 or len(lengths) > 1
        outer = max(1, len(values))
        values = values.flatten()
        shape.append(len(values) // outer)
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        return values.to_pylist()
    if ragged:
        raise ValueError("its rows are missing or of several lengths")
    require_few(tuple(shape[:2]), "")
    return values.to_numpy(zero_copy_only=False).reshape(shape)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
