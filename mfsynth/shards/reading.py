"""The tables of committed shards, as they are in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.shards import tables
from mfsynth.shards.records import Receipt
from mfsynth.storage.store import ObjectStore

_REMEDY = "`mfsynth verify` says what else is damaged"


def read_index(store: ObjectStore, receipts: Iterable[Receipt]) -> pa.Table:
    """The indexes of committed shards as one, in the order given.

    Raises:
        MfsynthError: The index of a shard is missing or damaged.
    """
    parts = _read(store, {r.objects["index"].key: r.accepted for r in receipts})
    if not parts:
        return tables.index_schema(()).empty_table()
    return pa.concat_tables(parts).combine_chunks()


def read_rejects(store: ObjectStore, receipt: Receipt) -> pa.Table:
    """The candidates of a committed shard that gave no sample.

    Raises:
        MfsynthError: The table is missing or damaged.
    """
    rows = receipt.rejected + receipt.quarantined
    [table] = _read(store, {receipt.objects["rejects"].key: rows})
    return table


def _read(store: ObjectStore, rows: Mapping[str, int]) -> list[pa.Table]:
    """Tables by their keys, each of as many rows as its receipt says."""
    try:
        found = store.read_many([*rows])
    except FileNotFoundError as error:
        raise MfsynthError(
            f"{error} is missing, though its shard is committed; {_REMEDY}"
        ) from None
    parts = []
    for key, expected in rows.items():
        try:
            file = pq.ParquetFile(pa.BufferReader(found[key]))
            _require_size(file.metadata, expected, f"{store.url}/{key}")
            table = file.read()
            # Text that is not UTF-8 would fail wherever it is looked at.
            table.validate(full=True)
            parts.append(table)
        # OSError: what pyarrow raises for compressed bytes that changed. ValueError: of names.
        except (pa.ArrowException, OSError, ValueError) as error:
            raise MfsynthError(
                f"{store.url}/{key}: truncated, or not Parquet; {_REMEDY}"
            ) from error
    return parts


def _require_size(metadata: pq.FileMetaData, rows: int, where: str) -> None:
    # Before anything is decoded: a few bytes can say that a row is there a thousand million times.
    if metadata.num_rows != rows:
        raise MfsynthError(f"{where}: {metadata.num_rows} rows, the receipt says {rows}; {_REMEDY}")
    if rows > Limit.ROWS.most:
        raise Limit.ROWS.refusal(where, f"{rows} rows")
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    if (size := sum(group.total_byte_size for group in groups)) > Limit.BYTES.most:
        raise Limit.BYTES.refusal(where, f"a table of {size} bytes")
