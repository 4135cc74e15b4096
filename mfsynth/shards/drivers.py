"""What drivers leave in the store: that they are at work, and how many shards were committed.

A listing can't tell a run that has no receipt yet from one that has lost them; what was counted
once can. So the number is written down: by every driver at its start and while it runs, by a copy
before its first shard, and by `finalize` in the manifest. It never exceeds the receipts that there
were.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mfsynth.config.documents import strict_json
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import gaps, listed, read_commits
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import read_run, run_sha256
from mfsynth.shards.segments import listed_tolerantly, shards_beside
from mfsynth.storage.store import ObjectStore

# Ten beats: a store that fails for some minutes doesn't make a driver look dead.
HEARTBEAT_S = 30.0
FRESH = timedelta(seconds=10 * HEARTBEAT_S)


@dataclass(frozen=True, slots=True)
class Counted:
    """How many shards were committed once.

    Attributes:
        shards: At least so many.
        source: Key of the document that says so.
    """

    shards: int
    source: str


def counted_shards(store: ObjectStore) -> Counted | None:
    """The most shards that anybody has counted; None if nobody has.

    Read it before the receipts, whose number only grows.

    Raises:
        MfsynthError: A document that says so can't be read.
    """
    counts = []
    for key in (layout.PROGRESS_KEY, layout.MANIFEST_KEY):
        with contextlib.suppress(FileNotFoundError):
            counts.append(Counted(_count(store, key, store.read_bytes(key)), key))
    return max(counts, key=lambda counted: counted.shards, default=None)


def note_progress(store: ObjectStore, shards: int) -> None:
    """Write down that so many shards are committed, unless more were before.

    Raises:
        MfsynthError: What was written before can't be read.
    """
    try:
        before = _count(store, layout.PROGRESS_KEY, store.read_bytes(layout.PROGRESS_KEY))
    except FileNotFoundError:
        before = -1
    if shards > before:
        document = json.dumps({"shards": shards}) + "\n"
        store.put_bytes(layout.PROGRESS_KEY, document.encode())


def read_known_commits(store: ObjectStore) -> dict[int, Receipt]:
    """Receipts of a run, as `read_commits`, and never those of a run that has lost all of them.

    Raises:
        MfsynthError: A commit can't be read, is of another run, or there is none and there must
            have been some.
    """
    counted, segments = counted_shards(store), listed_tolerantly(store, [])
    receipts = read_commits(store)
    problem = lost_receipts(store, receipts, counted)
    if not receipts:
        problem = problem or _in_segments_alone(shards_beside(store, segments, receipts))
    if problem is not None:
        raise MfsynthError(f"{store.url} has {problem}")
    _require_own(store, receipts)
    return receipts


def read_counted_commits(store: ObjectStore, *, from_segments: bool = True) -> dict[int, Receipt]:
    """Receipts of a run, all that were counted once or segments have, for whoever needs the run.

    There may be gaps among them, while a driver is at work.

    Args:
        store: Of the run.
        from_segments: As of `read_commits`.

    Raises:
        MfsynthError: A commit can't be read, is of another run, or there are fewer than there
            were.
    """
    counted, segments = counted_shards(store), listed_tolerantly(store, [])
    receipts = read_commits(store, from_segments=from_segments)
    problem = (
        lost_receipts(store, receipts, counted)
        or fewer_receipts(receipts, counted)
        or _in_segments_alone(shards_beside(store, segments, receipts))
    )
    if problem is not None:
        raise MfsynthError(f"{store.url} has {problem}")
    _require_own(store, receipts)
    return receipts


def read_all_commits(store: ObjectStore, *, from_segments: bool = True) -> dict[int, Receipt]:
    """Receipts of a run of which none is missing, for what must know all that is committed.

    Args:
        store: Of the run.
        from_segments: As of `read_commits`.

    Raises:
        MfsynthError: A commit is missing, can't be read, or is of another run.
    """
    receipts = read_counted_commits(store, from_segments=from_segments)
    if missing := gaps(receipts):
        raise MfsynthError(
            f"{store.url}: {listed(missing)} missing; start the run again to fill the gaps"
        )
    return receipts


def lost_receipts(
    store: ObjectStore, receipts: Collection[int], counted: Counted | None
) -> str | None:
    """Why a run without receipts is no empty one; None if it is, or has some.

    Args:
        store: Of the run.
        receipts: Shards whose receipts there are.
        counted: What `counted_shards` said before they were read.
    """
    # Where a driver has counted none, all that is there comes from sessions that committed nothing.
    if receipts or (counted is not None and not counted.shards):
        return None
    restore = f"bring {layout.COMMITS_FOLDER}/ back from where the run was copied or stored"
    if counted is not None:
        return (
            f"no receipt in {layout.COMMITS_FOLDER}/, but {counted.shards} shards were committed "
            f"({counted.source}); {restore}"
        )
    for folder in layout.FOLDERS.values():
        for key in store.list(folder):
            if layout.parse_object_key(key) is not None:
                return (
                    f"objects (such as {key}) but no receipt in {layout.COMMITS_FOLDER}/; "
                    f"{restore}, or give another output"
                )
    return None


def fewer_receipts(receipts: Collection[object], counted: Counted | None) -> str | None:
    """That receipts are missing, if they are fewer than were counted."""
    if counted is None or len(receipts) >= counted.shards:
        return None
    return (
        f"{len(receipts)} receipts in {layout.COMMITS_FOLDER}/, but {counted.shards} shards were "
        f"committed ({counted.source}); bring them back (if this is a copy: copy again), or run "
        "the run's own command again to make them anew"
    )


def _require_own(store: ObjectStore, receipts: Mapping[int, Receipt]) -> None:
    """Refuse receipts of another run, or of this one before its `run.json` was changed."""
    if not receipts:
        return
    run = read_run(store)
    expected = "" if run.format_version == layout.FIRST_VERSION else run_sha256(store)
    for receipt in receipts.values():
        if (receipt.run, receipt.run_sha256) != (run.run_id, expected):
            raise MfsynthError(
                f"{store.url}/{layout.commit_key(receipt.shard)}: was made for another "
                f"{layout.RUN_KEY}; bring back the one that belongs to it, or give two runs a "
                "folder each"
            )


def _in_segments_alone(shards: Sequence[int]) -> str | None:
    if not shards:
        return None
    return (
        f"no receipt of {listed(shards)} in {layout.COMMITS_FOLDER}/, but one in "
        f"{layout.SEGMENTS_FOLDER}/: bring it back (if this is a copy: copy again), or run "
        "the run's own command again to make the shard anew"
    )


def beat(store: ObjectStore, key: str) -> None:
    """Tell that a driver is at work; `key` is its `layout.new_heartbeat()`."""
    document = json.dumps({"host": socket.gethostname()}) + "\n"
    store.put_bytes(key, document.encode())


def driver_at_work(store: ObjectStore, now: datetime) -> str | None:
    """Key of the heartbeat of a driver that was heard of a short time ago; None if none was.

    Args:
        store: Of the run.
        now: By the store's clock.
    """
    for key, last in heartbeats(store).items():
        if last is None or now - last < FRESH:
            return key
    return None


def heartbeats(store: ObjectStore) -> dict[str, datetime | None]:
    """Keys of the heartbeats that there are, and when each was written by the store's clock."""
    entries = store.entries(layout.DRIVERS_FOLDER)
    return {entry.key: entry.modified for entry in entries if layout.is_heartbeat(entry.key)}


def host_of(store: ObjectStore, key: str) -> str:
    """Of the driver that has this heartbeat; "" where that can't be read."""
    with contextlib.suppress(MfsynthError, FileNotFoundError, ValueError):
        document = strict_json(store.read_bytes(key))
        if isinstance(document, dict) and isinstance(document.get("host"), str):
            return document["host"]
    return ""


def require_no_driver(store: ObjectStore, now: datetime) -> None:
    """Refuse to do what a running driver must not be beside.

    Args:
        store: Of the run.
        now: By the store's clock.

    Raises:
        MfsynthError: A driver was heard of a short time ago.
    """
    if (heartbeat := driver_at_work(store, now)) is not None:
        raise MfsynthError(
            f"{store.url}: a driver is at work ({heartbeat}), or a copy; stop it, or if it was "
            f"killed, wait for {FRESH.total_seconds() / 60:.0f} minutes"
        )


def _count(store: ObjectStore, key: str, data: bytes) -> int:
    try:
        document = strict_json(data)
        shards = document["shards" if key == layout.PROGRESS_KEY else "counts"]
        shards = shards if key == layout.PROGRESS_KEY else shards["shards"]
        if type(shards) is not int or shards < 0:
            raise ValueError("shards is not a number from 0")
    # RecursionError: of JSON that is nested too deeply.
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise MfsynthError(
            f"{store.url}/{key} can't be read ({type(error).__name__}: {str(error)[:100]}); "
            "bring it back, or remove it if no receipt is missing"
        ) from error
    return shards
