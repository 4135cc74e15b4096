"""The tables of committed shards, as they are in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout, tables
from mfsynth.shards.layout import SegmentName
from mfsynth.shards.records import Receipt, StoredObject
from mfsynth.shards.segments import cover, listed_tolerantly, read_tolerantly, tell_doubts
from mfsynth.storage.digests import sha256_of_bytes
from mfsynth.storage.store import ObjectStore

SEGMENT_NONCE = b"mfsynth.nonce"
SEGMENT_OF = b"mfsynth.indexes"
# What every version has.
_INDEX = partial(tables.index_schema, first_version=True)
_REJECTS = partial(tables.rejects_schema, first_version=True)
_BATCH_ROWS = 2**16
_SHARDS_AT_ONCE = 16
_REMEDY = "`mfsynth verify` says what else is damaged"


def read_index(
    store: ObjectStore, receipts: Iterable[Receipt], *, from_segments: bool = True
) -> pa.Table:
    """The indexes of committed shards as one, in the order given.

    Args:
        store: Of the run.
        receipts: Of the shards.
        from_segments: Whether to take the rows of segments where these can be believed.

    Raises:
        MfsynthError: The index of a shard is missing or damaged.
    """
    wanted = [*receipts]
    found: dict[range, tuple[str, pa.Table]] = {}
    if from_segments and len(wanted) > 1:
        found = _segments(store, wanted)
    covered = {shard for shards in found for shard in shards}
    alone = [receipt for receipt in wanted if receipt.shard not in covered]
    single = _read(store, [(r.objects["index"], r.accepted) for r in alone], _INDEX)
    parts = {shards.start: part for shards, part in found.items()}
    for receipt, table in zip(alone, single, strict=True):
        parts[receipt.shard] = (receipt.objects["index"].key, table)
    ordered = [parts[receipt.shard] for receipt in wanted if receipt.shard in parts]
    if not ordered:
        return tables.index_schema(tables.Declared()).empty_table()
    (first_key, first), *others = ordered
    for key, part in others:
        if part.schema != first.schema:
            raise _damaged(store, key, f"its columns are not those of {first_key}")
    return pa.concat_tables([part for _, part in ordered]).combine_chunks()


def indexes_sha256(receipts: Iterable[Receipt]) -> bytes:
    """What rows of a segment say that they were taken from: a digest of the indexes' digests."""
    digests = "".join(f"{receipt.objects['index'].sha256}\n" for receipt in receipts)
    return sha256_of_bytes(digests.encode()).encode()


def parse_segment_rows(
    store: ObjectStore, name: SegmentName, data: bytes, receipts: Sequence[Receipt]
) -> pa.Table:
    """The index rows of a segment, compared with the receipts of its shards.

    Raises:
        MfsynthError: They are damaged, or those of other indexes.
    """
    stored = StoredObject(name.key, len(data), name.sha256)
    counts = [receipt.accepted for receipt in receipts]
    table = _parsed(store, stored, sum(counts), data, _INDEX)
    metadata = dict(table.schema.metadata or {})
    metadata.pop(SEGMENT_NONCE, None)
    if metadata.pop(SEGMENT_OF, None) != indexes_sha256(receipts):
        raise _damaged(store, name.key, "is not of the indexes that the receipts name")
    shards = np.repeat([receipt.shard for receipt in receipts], counts)
    if not np.array_equal(table["shard"].to_numpy(), shards):
        raise _damaged(store, name.key, "its rows are not those of its shards, in their order")
    return table.replace_schema_metadata(metadata)


def read_rejects(store: ObjectStore, receipts: Iterable[Receipt]) -> Iterator[pa.Table]:
    """Of each committed shard, in the order given, the candidates that gave no sample.

    Some shards are read at a time: a store far away answers many as fast as one.

    Raises:
        MfsynthError: A table is missing or damaged.
    """
    wanted = [*receipts]
    for at in range(0, len(wanted), _SHARDS_AT_ONCE):
        some = wanted[at : at + _SHARDS_AT_ONCE]
        yield from _read(
            store, [(r.objects["rejects"], r.rejected + r.quarantined) for r in some], _REJECTS
        )


def read_rejected_pairs(store: ObjectStore, receipts: Iterable[Receipt]) -> Iterator[pa.Table]:
    """The rejected candidates of committed shards whose pixels were kept, shard by shard.

    Their tables have all columns of the index, and those of the rejects.

    Raises:
        MfsynthError: A table is missing or damaged.
    """
    kept = [r for r in receipts if r.rejected and layout.REJECTED_TAR in r.objects]
    for receipt, table in zip(kept, read_rejects(store, kept), strict=True):
        if "rgb_offset" not in table.column_names:
            key = receipt.objects["rejects"].key
            raise _damaged(store, key, "has no columns of pixels, the receipt says so")
        yield table.filter(pc.is_valid(table["rgb_offset"]))


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
    return [_parsed(store, stored, rows, found[stored.key], schema_of) for stored, rows in wanted]


def _parsed(
    store: ObjectStore,
    stored: StoredObject,
    rows: int,
    data: bytes,
    schema_of: Callable[[tables.Declared], pa.Schema],
) -> pa.Table:
    key = stored.key
    if len(data) != stored.size:
        raise _damaged(store, key, f"{len(data)} bytes, the receipt says {stored.size}")
    if sha256_of_bytes(data) != stored.sha256:
        raise _damaged(store, key, "its bytes changed (SHA-256 differs)")
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        if file.metadata.num_rows != rows:
            found_rows = f"{file.metadata.num_rows} rows"
            raise _damaged(store, key, f"{found_rows}, the receipt says {rows}")
        table = read_moderate(pa.BufferReader(data), f"{store.url}/{key}")
        # Text that is not UTF-8 would fail wherever it is looked at.
        table.validate(full=True)
    # OSError: what pyarrow raises for compressed bytes that it can't make sense of. ValueError:
    # for names that are not UTF-8.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(store, key, "truncated, or not Parquet") from error
    # Members that this version doesn't know may be described in columns of later types.
    declared = replace(tables.Declared.by(table.schema.names), others=())
    if not tables.has_fields(table.schema, schema_of(declared)):
        raise _damaged(store, key, "its columns are not those of this format")
    return table


def _segments(store: ObjectStore, receipts: Sequence[Receipt]) -> dict[range, tuple[str, pa.Table]]:
    """Keys and rows of segments, by the shards that they cover; none for shards out of order."""
    by_shard = {receipt.shard: receipt for receipt in receipts}
    if [*by_shard] != sorted(receipt.shard for receipt in receipts):
        return {}
    doubts: list[str] = []

    def take(
        chosen: Sequence[SegmentName],
    ) -> Iterator[tuple[SegmentName, tuple[range, tuple[str, pa.Table]]]]:
        for name, data in read_tolerantly(store, chosen, doubts):
            covered = [by_shard[shard] for shard in name.shards]
            try:
                table = parse_segment_rows(store, name, data, covered)
            except MfsynthError as error:
                doubts.append(str(error))
            else:
                yield name, (name.shards, (name.key, table))

    # The receipts that are stored with them need not be read: rows that say which indexes they
    # were taken from are those of the receipts that we have, or none.
    names = [name for name in listed_tolerantly(store, doubts) if name.kind == "index"]
    found = cover(names, by_shard.keys(), take)
    tell_doubts(store, doubts)
    return dict(found)


def read_moderate(
    source: str | pa.NativeFile, where: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """A Parquet table that is no larger than `Limit` says, decoded.

    A few bytes can say that a text is in every row: texts are counted as a dictionary first.

    Args:
        source: Path, or the bytes.
        where: What errors call it.
        columns: Which to read; None for all.

    Raises:
        MfsynthError: It is too large.
        pa.ArrowException: It can't be read; also `OSError` and `ValueError`.
    """
    with pq.ParquetFile(source) as file:
        metadata, schema = file.metadata, file.schema_arrow
        _require_moderate(metadata, where)
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns], schema.metadata)
    leaves = [metadata.schema.column(i) for i in range(len(metadata.schema))]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    rows = _BATCH_ROWS
    if (longest := _longest_prefix(metadata)) is not None:
        texts, rows = [], min(rows, max(1, Limit.BYTES.most // max(1, longest)))
    size, batches = 0, []
    with pq.ParquetFile(source, read_dictionary=texts) as file:
        for batch in file.iter_batches(rows, columns=columns):
            size += sum(map(_decoded_size, batch.columns))
            if size > Limit.BYTES.most:
                raise Limit.BYTES.refusal(where, f"a table of {size} bytes and more")
            batches.append(batch)
        compact = pa.schema([file.schema_arrow.field(name) for name in schema.names])
    return pa.Table.from_batches(batches, compact).cast(schema)


def _longest_prefix(metadata: pq.FileMetaData) -> int | None:
    """How long texts may be that begin like the one before; None if none are stored so.

    No dictionary keeps these short, so that few may be decoded at a time.
    """
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    sizes = [c.total_uncompressed_size for c in chunks if "DELTA_BYTE_ARRAY" in c.encodings]
    return max(sizes, default=None)


def _decoded_size(array: pa.Array) -> int:
    """Bytes that an array has when its dictionaries are taken for what they stand for."""
    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).cast(pa.int64())
        return array.indices.nbytes + (pc.sum(lengths.take(array.indices)).as_py() or 0)
    if pa.types.is_nested(array.type):
        parts = array.flatten()
        return array.nbytes + sum(map(_decoded_size, parts if isinstance(parts, list) else [parts]))
    return array.nbytes


def _require_moderate(metadata: pq.FileMetaData, where: str) -> None:
    """Refuse a table by what it says of itself, before it is decoded.

    A few bytes can say that a row is there a thousand million times.

    Raises:
        MfsynthError: It has more than `Limit.ROWS`, or more bytes than `Limit.BYTES`.
    """
    if metadata.num_rows > Limit.ROWS.most:
        raise Limit.ROWS.refusal(where, f"{metadata.num_rows} rows")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    for i in range(metadata.num_columns):
        if (values := sum(group.column(i).num_values for group in groups)) > Limit.ROWS.most:
            raise Limit.ROWS.refusal(where, f"a column of {values} values")
        # Of a fixed size, which only then isn't 0: each may stand for many.
        if (size := values * max(0, metadata.schema.column(i).length)) > Limit.BYTES.most:
            raise Limit.BYTES.refusal(where, f"a column of {size} bytes")
    if (size := sum(group.total_byte_size for group in groups)) > Limit.BYTES.most:
        raise Limit.BYTES.refusal(where, f"a table of {size} bytes")


def _damaged(store: ObjectStore, key: str, what: str) -> MfsynthError:
    return MfsynthError(f"{store.url}/{key}: {what}; {_REMEDY}")
