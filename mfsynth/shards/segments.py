"""Receipts and index rows of many shards in two objects: a cache, which nobody has to believe.

A segment counts while both of its objects are there. Their names hold the SHA-256 of their bytes.

- The index rows are written first, under a name that no other writer has. Then the receipts are
  read (once more), and only if they are the same as before is the second object written, which
  has them.
- Whoever commits a shard looks first that it has no receipt, then removes the segments that cover
  it, then creates the receipt. So a shard that is made anew never has a receipt and a segment that
  counts and says otherwise: the rows of such a segment were there before the receipts were read,
  and so before the earlier receipt went, and are found and removed.
- Readers list the receipts, then the segments. What is not as it must be is not believed, and read
  receipt by receipt.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mfsynth.config.documents import strict_json
from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.layout import SegmentName
from mfsynth.shards.records import Receipt, parse_receipt
from mfsynth.storage.digests import sha256_of_bytes
from mfsynth.storage.store import ObjectStore

SIZES = (32, 1024)
"""How many shards segments cover; those of each size are made of the size before."""

# Of damaged segments of equal shards, before they are read one by one.
_ROUNDS = 4
# Objects that are held in memory together.
_AT_ONCE = 16
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Segment:
    """The receipts of a range of shards.

    Attributes:
        key: Of the object with the receipts.
        shards: The range.
        run_sha256: Of `run.json`.
        index: The object with the index rows of these shards, in their order.
        index_size: Its bytes.
        texts: The receipts as they are stored.
        receipts: The same, parsed.
    """

    key: str
    shards: range
    run_sha256: str
    index: SegmentName
    index_size: int
    texts: tuple[bytes, ...]
    receipts: tuple[Receipt, ...]

    def disagreement(self, sizes: Mapping[int, int], listed: Mapping[SegmentName, int]) -> str:
        """What listings say against it; empty if nothing.

        Args:
            sizes: Bytes of the receipts of committed shards.
            listed: Bytes of the objects of segments.
        """
        for shard, text in zip(self.shards, self.texts, strict=True):
            if shard not in sizes:
                return f"covers shard {shard}, which is not committed"
            if sizes[shard] != len(text):
                return f"has another receipt of shard {shard} than {layout.commit_key(shard)}"
        size = listed.get(self.index)
        if size is None:
            return f"{self.index.key} is missing"
        return "" if size == self.index_size else f"{self.index.key} has {size} bytes"


def parse_segment(name: SegmentName, data: bytes) -> Segment:
    """The segment whose receipts are stored under a name.

    Raises:
        MfsynthError: It is none; the message doesn't say which.
    """
    if sha256_of_bytes(data) != name.sha256:
        raise MfsynthError("its bytes changed (SHA-256 differs)")
    try:
        document = strict_json(data)
        stored, texts = document["index"], document["receipts"]
        rows, size, key = stored["rows"], stored["size"], stored["key"]
        if (document["first"], document["count"]) != (name.first, name.count):
            raise ValueError("is of other shards than its name says")
        if len(texts) != name.count or not all(isinstance(text, str) for text in texts):
            raise ValueError("has not a receipt for each shard")
        index = layout.parse_segment_key(key) if isinstance(key, str) else None
        expected = SegmentName("index", name.first, name.count, stored["sha256"])
        if index is None or index != expected:
            raise ValueError("names no index of its shards")
        if type(rows) is not int or type(size) is not int:
            raise ValueError("says nothing of the size of its index")
        if not isinstance(document["run_sha256"], str):
            raise ValueError("is of no run")
        stored_texts = tuple(text.encode() for text in texts)
        receipts = tuple(
            parse_receipt(layout.commit_key(shard), text)
            for shard, text in zip(name.shards, stored_texts, strict=True)
        )
    except (ValueError, TypeError, KeyError, AttributeError, MfsynthError) as error:
        raise MfsynthError(f"not a segment ({error})") from error
    if sum(receipt.accepted for receipt in receipts) != rows:
        raise MfsynthError(f"says {rows} rows, which its receipts don't come to")
    return Segment(
        name.key, name.shards, document["run_sha256"], index, size, stored_texts, receipts
    )


def segment_document(
    run_sha256: str, index: SegmentName, size: int, rows: int, texts: Sequence[bytes]
) -> bytes:
    """The document that `parse_segment` reads.

    Args:
        run_sha256: Of `run.json`.
        index: The object with the index rows.
        size: Its bytes.
        rows: How many rows it has.
        texts: The receipts of its shards, as they are stored.
    """
    document = {
        "first": index.first,
        "count": index.count,
        "run_sha256": run_sha256,
        "index": {"key": index.key, "size": size, "sha256": index.sha256, "rows": rows},
        "receipts": [text.decode() for text in texts],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def listed_segments(store: ObjectStore) -> dict[SegmentName, int]:
    """The objects of segments that are there, with their bytes."""
    return {
        name: entry.size
        for entry in store.entries(layout.SEGMENTS_FOLDER)
        if (name := layout.parse_segment_key(entry.key)) is not None
    }


def believed(
    store: ObjectStore,
    sizes: Mapping[int, int],
    agrees: Callable[[Segment], bool] = lambda segment: True,
) -> list[Segment]:
    """Segments to be read in place of receipts; no two of them cover the same shard.

    Never raises for what is wrong with a segment: it is left out, and a line is logged.

    Args:
        store: Of the run.
        sizes: Bytes of the receipts of the shards that are wanted, listed before.
        agrees: What a segment must hold beside.
    """
    doubts: list[str] = []
    listed = listed_tolerantly(store, doubts)
    names = [name for name in listed if name.kind == "receipts"]
    if names:
        try:
            run_sha256 = sha256_of_bytes(store.read_bytes(layout.RUN_KEY))
        except FileNotFoundError:
            names = []

    def take(chosen: Sequence[SegmentName]) -> Iterator[tuple[SegmentName, Segment]]:
        # In JSON a quote takes two characters.
        most = {name: 2**16 + 2 * sum(sizes[shard] for shard in name.shards) for name in chosen}
        moderate = [name for name in chosen if listed[name] <= most[name]]
        doubts.extend(f"{name.key}: is too large" for name in chosen if listed[name] > most[name])
        for name, data in read_tolerantly(store, moderate, doubts):
            try:
                segment = parse_segment(name, data)
            except MfsynthError as error:
                doubts.append(f"{name.key}: {error}")
                continue
            if segment.run_sha256 != run_sha256:
                doubts.append(f"{name.key}: is of another run")
            elif problem := segment.disagreement(sizes, listed):
                doubts.append(f"{name.key}: {problem}")
            elif agrees(segment):
                yield name, segment

    found = cover(names, sizes.keys(), take)
    tell_doubts(store, doubts)
    return found


def shards_beside(
    store: ObjectStore, listed: Mapping[SegmentName, int], receipts: Collection[int]
) -> list[int]:
    """Shards that a sound segment of this run has a receipt of, and `_commits/` has not.

    Their receipts were lost, or deleted for the shards to be made anew.

    Args:
        store: Of the run.
        listed: Segments as they were listed before the receipts: of no younger shards.
        receipts: Shards that have one.
    """
    doubts: list[str] = []  # told by whoever reads segments for what they hold
    found: set[int] = set()
    for name, size in listed.items():
        # A name can say any number; a receipt has some bytes.
        if name.kind != "receipts" or not name.count <= size <= Limit.BYTES.most:
            continue
        beside = {shard for shard in name.shards if shard not in receipts}
        if beside <= found:
            continue
        for _, data in read_tolerantly(store, [name], doubts):
            with contextlib.suppress(MfsynthError, FileNotFoundError):
                segment = parse_segment(name, data)
                run_json = store.read_bytes(layout.RUN_KEY)
                if segment.run_sha256 == sha256_of_bytes(run_json):
                    found |= beside
    return sorted(shard for shard in found if not store.exists(layout.commit_key(shard)))


def cover(
    names: Iterable[SegmentName],
    shards: Collection[int],
    take: Callable[[Sequence[SegmentName]], Iterable[tuple[SegmentName, _T]]],
) -> list[_T]:
    """What `take` gives for segments that lie in `shards`, the largest first, none twice covered.

    Args:
        names: To choose from, all of one kind.
        shards: That are wanted.
        take: Gives something for those that can be believed; for the shards of others it is asked
            again, with what else there is.
    """
    left, free = sorted(names, key=lambda n: (-n.count, n.first, n.sha256)), {*shards}
    found: list[_T] = []
    for _ in range(_ROUNDS):
        chosen, others, still_free = [], [], {*free}
        for name in left:
            if name.count <= len(still_free) and still_free.issuperset(name.shards):
                chosen.append(name)
                still_free.difference_update(name.shards)
            else:
                others.append(name)
        if not chosen:
            break
        for at in range(0, len(chosen), _AT_ONCE):
            for name, value in take(chosen[at : at + _AT_ONCE]):
                found.append(value)
                free.difference_update(name.shards)
        left = others
    return found


def listed_tolerantly(store: ObjectStore, doubts: list[str]) -> dict[SegmentName, int]:
    """As `listed_segments`; nothing, with a word in `doubts`, where they can't be listed."""
    try:
        return listed_segments(store)
    except MfsynthError as error:
        doubts.append(str(error))
        return {}


def read_tolerantly(
    store: ObjectStore, names: Sequence[SegmentName], doubts: list[str]
) -> Iterator[tuple[SegmentName, bytes]]:
    """Objects of segments, without those that can't be read; these are named in `doubts`."""
    try:
        found = store.read_many([name.key for name in names])
    except (MfsynthError, FileNotFoundError):
        found = {}
    for name in names:
        try:
            yield name, found.get(name.key) or store.read_bytes(name.key)
        except FileNotFoundError:
            pass  # removed since it was listed
        except MfsynthError as error:
            doubts.append(str(error))


def tell_doubts(store: ObjectStore, doubts: Sequence[str]) -> None:
    """Log, in one line, why segments were not believed."""
    if doubts:
        more = f" and {len(doubts) - 1} more" if len(doubts) > 1 else ""
        _log.warning(
            "%s: a segment is not used%s (%s); `mfsynth verify` says what is damaged",
            store.url,
            more,
            doubts[0][:300],
        )


def remove_segments_of(store: ObjectStore, shard: int) -> None:
    """Remove the segments that cover a shard, before its receipt is created."""
    names = [name for name in listed_segments(store) if shard in name.shards]
    # The receipts first: rows without them are nothing.
    for name in sorted(names, key=lambda name: name.kind, reverse=True):
        store.delete(name.key)
