"""Objects that no commit refers to: losers of a race, leftovers of killed workers, old segments.

They are deleted in two phases. A first `collect` names them in a tombstone, one that comes when the
tombstone is due deletes what still no receipt names. Drivers don't commit what a tombstone names,
and make it again instead: an object that is committed had no tombstone just before, and so is
deleted a day later at the earliest, when its receipt is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mfsynth.shards import layout
from mfsynth.shards.commits import committed_sizes
from mfsynth.shards.drivers import read_all_commits, require_no_driver
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.segments import believed
from mfsynth.shards.tombstones import (
    FOLDERS,
    Tombstone,
    may_be_deleted,
    put_tombstone,
    read_tombstones,
)
from mfsynth.storage.exclusive import CLAIMS, is_part
from mfsynth.storage.listing import Entry
from mfsynth.storage.store import ObjectStore

# An uploaded object is garbage until its shard is committed, so a running job's must be left
# alone. Its life before the commit is at most an attempt's deadline (half an hour by default)
# and the time a driver may hang on its store. A day is far above any of it; it costs a day of
# storage, where too short a time would cost a shard.
DEFAULT_GRACE = timedelta(days=1)
# From the tombstone to the deletion. Far above the time that a driver takes from looking for
# tombstones to its commit.
DELAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Collected:
    """What a `collect` did, or would have done.

    Attributes:
        removed: What it removed itself; what others removed meanwhile is not in it.
        marked: What it named in a tombstone.
        due: From when on that may be deleted; None if nothing was marked.
        waiting: How many objects earlier tombstones name that are not due.
    """

    removed: tuple[Entry, ...]
    marked: tuple[Entry, ...]
    due: datetime | None
    waiting: int


def collect(
    store: ObjectStore,
    older_than: timedelta = DEFAULT_GRACE,
    *,
    delay: timedelta = DELAY,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Collected:
    """Delete what an earlier call has marked and is due; mark what is garbage now.

    Visible: each deletion at once. Idempotent, and any number may run at a time; killed, it goes
    on the next time. Times are by the store's own clock, whatever that of this machine says; to
    read it, a probe is written and removed.

    Args:
        store: Of the run.
        older_than: What is younger is not marked.
        delay: From marking to deletion.
        dry_run: Only say what would be done.
        now: By the store's clock, if it is known.

    Raises:
        MfsynthError: There is no run, a driver is at work, a commit is missing or can't be read
            (then nothing is garbage, because what it refers to isn't known), or a tombstone can't.
    """
    run = read_run(store)
    now = now or store.clock(layout.COMMITS_FOLDER) or _now()
    require_no_driver(store, now)
    tombstones = read_tombstones(store)
    found, kept = _survey(store, run.run_id)
    removed: list[Entry] = []
    for tombstone in tombstones:
        if tombstone.due <= now:
            removed += _bury(store, tombstone, run.run_id, kept, dry_run=dry_run)
    waiting = {_identity(e) for t in tombstones if t.due > now for e in t.entries}
    gone = waiting | {_identity(e) for t in tombstones if t.due <= now for e in t.entries}
    marked = [e for e in _older(found, older_than, now) if _identity(e) not in gone]
    due = now + delay if marked else None
    if due is not None and not dry_run:
        put_tombstone(store, marked, now, due)
    return Collected(tuple(removed), tuple(marked), due, len(waiting))


def garbage(
    store: ObjectStore, older_than: timedelta = DEFAULT_GRACE, now: datetime | None = None
) -> Sequence[Entry]:
    """What may be marked of a run, written more than `older_than` ago.

    Objects under `shards/`, `index/` and `rejects/` that no commit refers to, segments that are
    half written, damaged, stale or covered by larger ones, documents of views that are gone, the
    temporaries and unfinished uploads of killed writers anywhere in the run, and heartbeats of
    drivers that were killed. Objects
    whose age the store doesn't know count as young, unless `older_than` is zero.

    Raises:
        MfsynthError: There is no run, or a commit is missing or can't be read.
    """
    run = read_run(store)
    found, _ = _survey(store, run.run_id)
    if not found or not older_than:
        return found
    return _older(found, older_than, now or store.clock(layout.COMMITS_FOLDER) or _now())


def _survey(store: ObjectStore, run_id: str) -> tuple[Sequence[Entry], set[str]]:
    """What no commit refers to, and the keys that are of use: of commits, and good segments."""
    # Objects before commits: a shard that is committed meanwhile is seen as referred to.
    entries = [entry for folder in FOLDERS for entry in store.entries(folder)]
    at_top = [*store.top_level(), *store.entries(CLAIMS)]
    entries += [entry for entry in at_top if is_part(entry.key)]
    uploads = store.unfinished_uploads()
    # No segment's word is taken for what may be deleted.
    receipts = read_all_commits(store, from_segments=False)
    kept = {stored.key for r in receipts.values() for stored in r.objects.values()}
    kept |= {layout.tar_index_key(r.objects["tar"].key) for r in receipts.values()}
    kept |= _segments(store, receipts)
    views = {view for e in entries if (view := layout.parse_view_key(e.key)) is not None}
    kept |= {key for view in views for key in layout.view_document_keys(view).values()}
    found = [e for e in entries if e.key not in kept and _is_of(run_id, e)]
    # Of a committed object, too: its upload was tried again.
    return found + [e for e in uploads if _is_of(run_id, e)], kept


def _is_of(run_id: str, entry: Entry) -> bool:
    """Whether it may be deleted, and is not an object of another run in the same folder."""
    name = layout.parse_object_key(layout.tar_of_index(entry.key) or entry.key)
    is_ours = may_be_deleted(entry.key, is_upload=entry.upload is not None)
    return is_ours and (name is None or name.run == run_id)


def _segments(store: ObjectStore, receipts: Mapping[int, Receipt]) -> set[str]:
    """Keys of the segments that say what the receipts do, as far as readers need them."""
    good = believed(
        store,
        committed_sizes(store),
        lambda segment: all(receipts.get(found.shard) == found for found in segment.receipts),
    )
    return {key for segment in good for key in (segment.key, segment.index.key)}


def _older(found: Sequence[Entry], than: timedelta, now: datetime) -> Sequence[Entry]:
    return [e for e in found if not than or (e.modified and now - e.modified >= than)]


def _bury(
    store: ObjectStore, tombstone: Tombstone, run_id: str, kept: set[str], *, dry_run: bool
) -> list[Entry]:
    """Delete what a tombstone names, and last the tombstone; gives what this call deleted."""
    named = [e for e in tombstone.entries if _is_of(run_id, e)]
    doomed = [e for e in named if e.upload is None and e.key not in kept]
    if any(e.upload is not None for e in named):
        # Of this store: the run may have been copied with what was marked in another.
        uploads = {_identity(e) for e in store.unfinished_uploads()}
        doomed += [e for e in named if _identity(e) in uploads]
    if dry_run:
        return doomed
    # Of a segment the receipts first: rows without them are nothing.
    doomed.sort(key=lambda entry: entry.key.endswith(".parquet"))
    removed = [entry for entry in doomed if store.discard(entry)]
    store.delete(tombstone.key)
    return removed


def _identity(entry: Entry) -> tuple[str, str | None]:
    return entry.key, entry.upload


def _now() -> datetime:
    return datetime.now(UTC)
