"""Which shards a run has: `_commits/`, nothing else.

It rests on one operation, `ObjectStore.create_if_absent`: the first of any number of drivers
wins, the others learn what won. Nothing here is remembered outside the store.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence

from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.records import Receipt, parse_receipt
from mfsynth.shards.segments import believed, remove_segments_of
from mfsynth.storage.store import ObjectStore, read_listed

_SHARDS_SHOWN = 8
_MOST_GAPS = 1_000_000


def commit(store: ObjectStore, receipt: Receipt) -> bool:
    """Commit an uploaded shard; True if this receipt is the shard's commit now.

    Visible: when it returns; from then on readers see the shard. The first commit of a shard
    wins, whoever makes it; the objects of the others are garbage for `gc`.
    Idempotent: the winner's retry after a lost acknowledgement gets True again, because the
    stored attempt is its own.
    """
    if create_receipt(store, receipt.shard, receipt.to_json().encode()):
        return True
    return read_commit(store, receipt.shard).attempt == receipt.attempt


def create_receipt(store: ObjectStore, shard: int, data: bytes) -> bool:
    """Store the receipt of a shard, byte for byte, unless there is one; True if this call did.

    Segments that cover the shard, of a receipt that was deleted, are removed before.
    """
    key = layout.commit_key(shard)
    # In this order: what is written of an earlier receipt after the first look won't count.
    if store.exists(key):
        return False
    remove_segments_of(store, shard)
    return store.create_if_absent(key, data)


def read_commit(store: ObjectStore, shard: int) -> Receipt:
    """The receipt of a committed shard, from its key: a listing may not know it yet.

    Raises:
        MfsynthError: It isn't there, or can't be read.
    """
    key = layout.commit_key(shard)
    try:
        return _receipt(store, key, store.read_bytes(key))
    except FileNotFoundError as error:
        raise MfsynthError(f"{error} is gone, or not seen yet") from None


def lacking_objects(store: ObjectStore, receipt: Receipt) -> list[str]:
    """What the store doesn't hold of what a receipt says, a line an object."""
    problems = []
    for stored in receipt.objects.values():
        size = store.size(stored.key)
        if size is None:
            problems.append(f"{store.url}/{stored.key} is missing")
        elif size != stored.size:
            problems.append(f"{store.url}/{stored.key} has {size} bytes, not {stored.size}")
    return problems


def read_commits(
    store: ObjectStore, *, exclude: Container[int] = (), from_segments: bool = True
) -> dict[int, Receipt]:
    """Receipts of all committed shards, by number, in order.

    Args:
        store: Of the run.
        exclude: Shards whose receipts are known and need not be read.
        from_segments: Whether to take them from segments where these can be believed.

    Raises:
        MfsynthError: A commit can't be read as a receipt, or is gone since it was listed.
    """
    sizes = {shard: size for shard, size in committed_sizes(store).items() if shard not in exclude}
    found = believed(store, sizes) if from_segments and len(sizes) > 1 else []
    receipts = {receipt.shard: receipt for segment in found for receipt in segment.receipts}
    keys = [layout.commit_key(shard) for shard in sizes if shard not in receipts]
    for key, data in read_listed(store, keys).items():
        receipt = _receipt(store, key, data)
        receipts[receipt.shard] = receipt
    return dict(sorted(receipts.items()))


def committed_sizes(store: ObjectStore) -> dict[int, int]:
    """Committed shards, each with the bytes of its receipt."""
    return {
        shard: entry.size
        for entry in store.entries(layout.COMMITS_FOLDER)
        if (shard := layout.parse_commit_key(entry.key)) is not None
    }


def gaps(commits: Collection[int]) -> list[int]:
    """Shards below the last committed one that are not committed.

    Raises:
        MfsynthError: There are so many that the last one is none of this run.
    """
    last = max(commits, default=-1)
    if last - len(commits) > _MOST_GAPS:
        raise MfsynthError(
            f"{layout.commit_key(last)}: of {last} shards before it, {len(commits) - 1} are "
            "committed: it is of no run that is here; remove it"
        )
    return sorted({*range(last)} - {*commits})


def listed(shards: Sequence[int]) -> str:
    """`shards 3, 5 and 9 more`: short for any number of them."""
    shown = ", ".join(str(shard) for shard in shards[:_SHARDS_SHOWN])
    others = len(shards) - _SHARDS_SHOWN
    more = f" and {others} more" if others > 0 else ""
    return f"shard{'s' if len(shards) > 1 else ''} {shown}{more}"


def _receipt(store: ObjectStore, key: str, data: bytes) -> Receipt:
    try:
        return parse_receipt(key, data)
    except MfsynthError as error:
        raise MfsynthError(
            f"{store.url}/{error}; bring it back, or delete it and run the run's own command "
            "again, which makes its shard anew"
        ) from error
