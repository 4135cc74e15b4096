"""Writing segments: many small objects of a run once more in two large ones."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Container, Iterable, Iterator, Sequence

import pyarrow as pa

from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import committed_sizes, listed
from mfsynth.shards.layout import SegmentName
from mfsynth.shards.reading import (
    SEGMENT_NONCE,
    SEGMENT_OF,
    indexes_sha256,
    parse_segment_rows,
    read_index,
)
from mfsynth.shards.records import parse_receipt
from mfsynth.shards.run_manifest import run_sha256
from mfsynth.shards.segments import SIZES, believed, listed_segments, segment_document
from mfsynth.shards.tables import write_parquet
from mfsynth.storage.digests import sha256_of_bytes
from mfsynth.storage.store import ObjectStore

# Readers that want few columns or rows of a large table need not decode all of it.
_ROWS_A_GROUP = 2**14
# Where shards are so large, there are few of them to read. Of a table that is read at once each row
# may have a kilobyte.
_MOST_ROWS = 2**19


def compact(
    store: ObjectStore,
    committed: Collection[int],
    *,
    sizes: Sequence[int] = SIZES,
    without: Container[range] = (),
) -> Iterator[tuple[range, str]]:
    """Write the segments that are lacking, one at each step, the small ones first.

    Visible: each when it is whole. Idempotent, and any number may run at a time: then some shards
    have several segments, of which any will do. Killed, it leaves at most rows without receipts.

    Args:
        store: Of a run.
        committed: Shards that are committed, as far as is known.
        sizes: How many shards segments cover, rising; each divides the next.
        without: Ranges of shards to leave as they are.

    Yields:
        The shards, and why they could not be compacted; empty if nothing went wrong.
    """
    for smaller, size in zip((None, *sizes), sizes, strict=False):
        for shards in _lacking(listed_segments(store), committed, size):
            if shards in without:
                continue
            try:
                _write(store, shards, smaller)
            except (MfsynthError, OSError, pa.ArrowException) as error:
                yield shards, f"{_named(shards)}: {error}"
            else:
                yield shards, ""


def _lacking(names: Iterable[SegmentName], committed: Collection[int], size: int) -> list[range]:
    """Complete ranges of shards that no segment covers, of this size or a larger one."""
    whole = {kind: {n.shards for n in names if n.kind == kind} for kind in layout.SEGMENT_KINDS}
    there = whole["index"] & whole["receipts"]
    ranges = {range(shard, shard + size) for shard in committed if shard % size == 0}
    known = {*committed}
    covered = {
        range(first, first + size)
        for shards in there
        if size <= len(shards) <= len(known)
        for first in range(shards.start, shards.stop, size)
    }
    return sorted(
        (shards for shards in ranges - covered if known.issuperset(shards)),
        key=lambda shards: shards.start,
    )


def _write(store: ObjectStore, shards: range, smaller: int | None) -> None:
    run_hash = run_sha256(store)
    texts = _texts(store, shards, smaller)
    receipts = [
        parse_receipt(layout.commit_key(shard), text)
        for shard, text in zip(shards, texts, strict=True)
    ]
    if sum(receipt.accepted for receipt in receipts) > _MOST_ROWS:
        return
    table = read_index(store, receipts)
    # No other writer has this name: if it is removed, it stays so.
    ours = {SEGMENT_NONCE: secrets.token_bytes(16).hex(), SEGMENT_OF: indexes_sha256(receipts)}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **ours})
    data = _parquet(table)
    name = _name("index", shards, data)
    # What readers would refuse is not written.
    parse_segment_rows(store, name, data, receipts)
    store.put_bytes(name.key, data)
    # The rows are there, for whoever commits one of the shards anew to find, before the receipts
    # are read that will be believed.
    if _texts(store, shards, smaller) != texts:
        raise MfsynthError("a receipt was changed meanwhile")
    document = segment_document(run_hash, name, len(data), len(table), texts)
    store.put_bytes(_name("receipts", shards, document).key, document)


def _texts(store: ObjectStore, shards: range, smaller: int | None) -> list[bytes]:
    """The receipts as they are now: from themselves, or from segments that can be believed."""
    if smaller is None:
        found = store.read_many([layout.commit_key(shard) for shard in shards])
        return [found[layout.commit_key(shard)] for shard in shards]
    sizes = committed_sizes(store)
    there = believed(store, {shard: sizes[shard] for shard in shards if shard in sizes})
    texts = {
        shard: text
        for segment in there
        for shard, text in zip(segment.shards, segment.texts, strict=True)
    }
    if missing := [shard for shard in shards if shard not in texts]:
        raise MfsynthError(f"no smaller segment covers {listed(missing)}")
    return [texts[shard] for shard in shards]


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    write_parquet(table, sink, _ROWS_A_GROUP)
    return sink.getvalue().to_pybytes()


def _name(kind: str, shards: range, data: bytes) -> SegmentName:
    return SegmentName(kind, shards.start, len(shards), sha256_of_bytes(data))


def _named(shards: range) -> str:
    return f"shards {shards.start} to {shards.stop - 1}"
