"""The tables of committed shards, as they are in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.shards import tables
from mfsynth.shards.records import Receipt, StoredObject
from mfsynth.storage.store import ObjectStore

# What every version has.
_INDEX = partial(tables.index_schema, first_version=True)
_REJECTS = partial(tables.rejects_schema, first_version=True)
_REMEDY = "`mfsynth verify` says what else is damaged"


def read_index(store: ObjectStore, receipts: Iterable[Receipt]) -> pa.Table:
    """The indexes of committed shards as one, in the order given.

    Raises:
        MfsynthError: The index of a shard is missing or damaged.
    """
    wanted = [(receipt.objects["index"], receipt.accepted) for receipt in receipts]
    parts = _read(store, wanted, _INDEX)
    if not parts:
        return tables.index_schema(tables.Declared()).empty_table()
    first, *others = parts
    for (stored, _), part in zip(wanted[1:], others, strict=True):
        if part.schema != first.schema:
            raise _damaged(store, stored, f"its columns are not those of {wanted[0][0].key}")
    return pa.concat_tables(parts).combine_chunks()


def read_rejects(store: ObjectStore, receipt: Receipt) -> pa.Table:
    """The candidates of a committed shard that gave no sample.

    Raises:
        MfsynthError: The table is missing or damaged.
    """
    rows = receipt.rejected + receipt.quarantined
    [table] = _read(store, [(receipt.objects["rejects"], rows)], _REJECTS)
    return table


def _read(
    store: ObjectStore,
    wanted: Sequence[tuple[StoredObject, int]],
    schema_of: Callable[[tables.Declared], pa.Schema],
) -> list[pa.Table]:
    """Tables of so many rows, each compared with its receipt before it is parsed."""
    try:
        found = store.read_many([stored.key for stored, _ in wanted])
    except FileNotFoundError as error:
        raise MfsynthError(
            f"{error} is missing, though its shard is committed; {_REMEDY}"
        ) from None
    parts = []
    for stored, rows in wanted:
        data = found[stored.key]
        if len(data) != stored.size:
            raise _damaged(store, stored, f"{len(data)} bytes, the receipt says {stored.size}")
        if hashlib.sha256(data).hexdigest() != stored.sha256:
            raise _damaged(store, stored, "its bytes changed (SHA-256 differs)")
        try:
            file = pq.ParquetFile(pa.BufferReader(data))
            if file.metadata.num_rows != rows:
                found_rows = f"{file.metadata.num_rows} rows"
                raise _damaged(store, stored, f"{found_rows}, the receipt says {rows}")
            require_moderate(file.metadata, f"{store.url}/{stored.key}")
            table = file.read()
            # Text that is not UTF-8 would fail wherever it is looked at.
            table.validate(full=True)
        # OSError: what pyarrow raises for compressed bytes that it can't make sense of. ValueError:
        # for names that are not UTF-8.
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(store, stored, "truncated, or not Parquet") from error
        declared = tables.Declared.by(table.schema.names)
        if not tables.has_fields(table.schema, schema_of(declared)):
            raise _damaged(store, stored, "its columns are not those of this format")
        parts.append(table)
    return parts


def require_moderate(metadata: pq.FileMetaData, where: str) -> None:
    """Refuse a table by what it says of itself, before it is decoded.

    A few bytes can say that a row is there a thousand million times.

    Raises:
        MfsynthError: It has more than `Limit.ROWS`, or more bytes than `Limit.BYTES`.
    """
    if metadata.num_rows > Limit.ROWS.most:
        raise Limit.ROWS.refusal(where, f"{metadata.num_rows} rows")
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    if (size := sum(group.total_byte_size for group in groups)) > Limit.BYTES.most:
        raise Limit.BYTES.refusal(where, f"a table of {size} bytes")


def _damaged(store: ObjectStore, stored: StoredObject, what: str) -> MfsynthError:
    return MfsynthError(f"{store.url}/{stored.key}: {what}; {_REMEDY}")
