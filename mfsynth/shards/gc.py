"""Objects that no commit refers to: losers of a race, leftovers of killed workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from mfsynth.shards import layout
from mfsynth.shards.commits import read_commits, read_run
from mfsynth.storage.atomic import PART_SUFFIX
from mfsynth.storage.listing import Entry
from mfsynth.storage.store import ObjectStore

# An uploaded object is garbage until its shard is committed, so a running job's must be left
# alone. Its life before the commit is at most an attempt's deadline (half an hour by default)
# and the time a driver may hang on its store. A day is far above any of it; it costs a day of
# storage, where too short a time would cost a shard.
DEFAULT_GRACE = timedelta(days=1)


def garbage(
    store: ObjectStore, older_than: timedelta = DEFAULT_GRACE, now: datetime | None = None
) -> Sequence[Entry]:
    """What may be deleted of a run, written more than `older_than` ago.

    Objects under `shards/`, `index/` and `rejects/` that no commit refers to, and the temporaries
    and unfinished uploads of killed writers anywhere in the run.

    Ages are by the store's own clock, whatever that of this machine says; to read it, a probe is
    written and removed. Objects whose age the store doesn't know count as young, unless
    `older_than` is zero.

    Raises:
        MfsynthError: There is no run, or a commit can't be read (then nothing is garbage,
            because what it refers to isn't known).
    """
    read_run(store)
    # Objects before commits: a shard that is committed meanwhile is seen as referred to.
    folders = (*layout.FOLDERS.values(), layout.COMMITS_FOLDER)
    entries = [entry for folder in folders for entry in store.entries(folder)]
    entries += [e for e in store.top_level() if e.key.endswith(PART_SUFFIX)]
    uploads = store.unfinished_uploads()
    kept = {o.key for receipt in read_commits(store).values() for o in receipt.objects.values()}
    unreferenced = [e for e in entries if e.key not in kept and _collectable(e.key)]
    # Of a committed object, too: its upload was tried again.
    unreferenced += [e for e in uploads if _collectable(e.key)]
    if not unreferenced or not older_than:
        return unreferenced
    before = (now or store.clock(layout.COMMITS_FOLDER) or datetime.now(UTC)) - older_than
    return [entry for entry in unreferenced if entry.modified and entry.modified <= before]


def collect(store: ObjectStore, entries: Iterable[Entry]) -> int:
    """Delete `entries`; returns their bytes. Idempotent: what is gone already is no error."""
    size = 0
    for entry in entries:
        store.discard(entry)
        size += entry.size
    return size


def _collectable(key: str) -> bool:
    # Only what mfsynth writes: a stranger's file in one of our folders is not ours to delete.
    return key.endswith(PART_SUFFIX) or layout.parse_object_key(key) is not None
