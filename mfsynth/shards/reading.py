"""The tables of committed shards, as they are in the store."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

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
    parts = _read(store, [receipt.objects["index"].key for receipt in receipts])
    if not parts:
        return tables.index_schema(()).empty_table()
    return pa.concat_tables(parts).combine_chunks()


def read_rejects(store: ObjectStore, receipt: Receipt) -> pa.Table:
    """The candidates of a committed shard that gave no sample.

    Raises:
        MfsynthError: The table is missing or damaged.
    """
    [table] = _read(store, [receipt.objects["rejects"].key])
    return table


def _read(store: ObjectStore, keys: list[str]) -> list[pa.Table]:
    try:
        found = store.read_many(keys)
    except FileNotFoundError as error:
        raise MfsynthError(
            f"{error} is missing, though its shard is committed; {_REMEDY}"
        ) from None
    parts = []
    for key in keys:
        try:
            parts.append(pq.read_table(pa.BufferReader(found[key])))
        # OSError: what pyarrow raises for compressed bytes that changed.
        except (pa.ArrowException, OSError) as error:
            raise MfsynthError(
                f"{store.url}/{key}: truncated, or not Parquet; {_REMEDY}"
            ) from error
    return parts
