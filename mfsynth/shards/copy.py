"""A run copied to another store: what its receipts name, compared with them on the way.

A copy comes to be like a run: `run.json`, then the number of shards to come, then of each shard its
objects and last its receipt. Killed, it is a run with fewer receipts than were counted, which
readers and `verify` refuse, and the same call again brings what is missing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from mfsynth.errors import MfsynthError
from mfsynth.formatting import shell_line
from mfsynth.shards import layout
from mfsynth.shards.commits import (
    create_receipt,
    lacking_objects,
    listed,
    read_commit,
    read_commits,
)
from mfsynth.shards.documents.energon import INFO_KEY, EnergonIndex
from mfsynth.shards.drivers import (
    HEARTBEAT_S,
    beat,
    driver_at_work,
    note_progress,
    read_all_commits,
    read_counted_commits,
)
from mfsynth.shards.energon import has_energon, stale_energon, write_energon
from mfsynth.shards.finalize import stale_documents
from mfsynth.shards.reading import read_index
from mfsynth.shards.records import Receipt, StoredObject
from mfsynth.shards.run_manifest import RunManifest, open_copy, read_run
from mfsynth.shards.tombstones import condemned_keys
from mfsynth.shards.totals import totals
from mfsynth.shards.view_documents import documents_of_view
from mfsynth.shards.views import View, read_views
from mfsynth.storage.digests import sha256_of_file
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore

# Copying waits for stores more than for processors. Each thread has one object on the local disk if
# it comes from afar, and ten parts of 50 MB of it in memory while it is uploaded.
_THREADS = 4


class _DamagedError(MfsynthError):
    """The source doesn't hold what a receipt says; the other shards can be copied."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What the copy of a run holds now.

    Attributes:
        shards: Of the source.
        pairs: In them.
        size: Bytes of their objects.
        brought: How many of the shards this call has brought, or mended.
        left_out: Documents of the source that aren't what the copy's receipts come to.
        views_left_out: Why views of the source were not copied, a line each.
        is_running: Whether a driver is at work on the source, so that there will be more.
    """

    shards: int
    pairs: int
    size: int
    brought: int
    left_out: tuple[str, ...]
    views_left_out: tuple[str, ...]
    is_running: bool


def copy_run(
    source: ObjectStore, target: ObjectStore, on_shard: Callable[[int, int], None] | None = None
) -> Copied:
    """Copy the committed shards of a run, and the documents that belong to them.

    Visible: each shard with its receipt, when all its objects have arrived. Idempotent: what the
    target has with a receipt and at its size is not read again, objects without a receipt are
    compared with it. Any number may run at a time, and beside a driver on either side.

    Args:
        source: The run.
        target: An empty place, or an earlier copy.
        on_shard: Called with (shards done, shards) after each shard that was not there.

    Raises:
        MfsynthError: One place lies in the other; there is no run, or one that has lost receipts or
            is damaged (then all that is sound was copied); the target holds something else.
    """
    if source.overlaps(target):
        raise MfsynthError(
            f"{target.url} is {source.url}, or one lies in the other; give the copy a place of its "
            "own"
        )
    run = read_run(source)
    run_json = source.read_bytes(layout.RUN_KEY)
    # By this machine's clock: to ask the source for its own, something would have to be written.
    is_running = driver_at_work(source, datetime.now(UTC)) is not None
    views, faults = read_views(source)
    # A driver commits in any order; without one, gaps are receipts that were lost.
    receipts = (read_counted_commits if is_running else read_all_commits)(source)
    open_copy(target, run_json)
    with _heartbeat(target) as keep_alive:
        there = read_commits(target)
        _require_no_other(target, receipts, there)
        note_progress(target, len(receipts))
        wanted = _not_whole(target, receipts, there)
        _copy_shards(source, target, wanted, keep_alive, on_shard)
        is_more = bool(there.keys() - receipts.keys())
        left_out = _copy_documents(source, target, run, receipts, is_more)
        left_out += _copy_energon(source, target, receipts, is_more)
        faults += _copy_views(source, target, run, views, receipts)
    sums = totals(receipts.values())
    return Copied(
        shards=sums.shards,
        pairs=sums.accepted,
        size=sums.size,
        brought=len(wanted),
        left_out=left_out,
        views_left_out=tuple(faults),
        is_running=is_running,
    )


def _require_no_other(
    target: ObjectStore, receipts: Mapping[int, Receipt], there: Mapping[int, Receipt]
) -> None:
    if others := [n for n, receipt in receipts.items() if there.get(n, receipt) != receipt]:
        raise _other_receipts(target, others)


def _other_receipts(target: ObjectStore, shards: list[int]) -> MfsynthError:
    return MfsynthError(
        f"{target.url} has other receipts of {listed(shards)} than the run to copy: it was "
        "generated into, or they were changed; give another place"
    )


@contextlib.contextmanager
def _heartbeat(target: ObjectStore) -> Iterator[Callable[[], None]]:
    """Keep `gc` away from the target; gives what is to be called now and then."""
    key = layout.new_heartbeat()
    due = 0.0

    def keep_alive() -> None:
        nonlocal due
        if time.monotonic() >= due:
            beat(target, key)
            due = time.monotonic() + HEARTBEAT_S

    keep_alive()
    try:
        yield keep_alive
    finally:
        # It must not hide what ended the copy: gc removes what is left.
        with contextlib.suppress(MfsynthError):
            target.delete(key)


def _not_whole(
    target: ObjectStore, receipts: Mapping[int, Receipt], there: Mapping[int, Receipt]
) -> dict[int, tuple[Receipt, frozenset[str]]]:
    """Shards to copy, by number, each with the keys of the objects that the target has.

    Raises:
        MfsynthError: `gc` is about to remove one of them from the target.
    """
    # Before the listing: what a gc removes that was at work before is not taken to be there.
    condemned = condemned_keys(target)
    sizes = {
        entry.key: entry.size
        for folder in layout.FOLDERS.values()
        for entry in target.entries(folder)
    }
    wanted = {}
    for shard, receipt in receipts.items():
        objects = receipt.objects.values()
        here = frozenset(stored.key for stored in objects if sizes.get(stored.key) == stored.size)
        if shard in there and len(here) == len(objects):
            continue
        if shard not in there and (doomed := {stored.key for stored in objects} & condemned):
            raise MfsynthError(
                f"{target.url}/{min(doomed)}: gc has marked it; call `mfsynth gc` there until it "
                "is removed, a day after it was marked, and copy again"
            )
        wanted[shard] = receipt, here
    return wanted


def _copy_shards(
    source: ObjectStore,
    target: ObjectStore,
    wanted: Mapping[int, tuple[Receipt, frozenset[str]]],
    keep_alive: Callable[[], None],
    on_shard: Callable[[int, int], None] | None,
) -> None:
    damaged: list[str] = []
    done = 0
    shards = iter(wanted.values())
    with ThreadPoolExecutor(_THREADS, "copy") as pool:

        def begun(some: Iterable[tuple[Receipt, frozenset[str]]]) -> set[Future[None]]:
            return {pool.submit(_copy_shard, source, target, *shard) for shard in some}

        # Few at a time, so that an error ends the copy soon, and a run may have any number.
        pending = begun(islice(shards, 2 * _THREADS))
        try:
            while pending:
                through, pending = wait(pending, HEARTBEAT_S, FIRST_COMPLETED)
                keep_alive()
                for future in through:
                    try:
                        future.result()
                    except _DamagedError as error:
                        damaged.append(str(error))
                    done += 1
                    if on_shard is not None:
                        on_shard(done, len(wanted))
                pending |= begun(islice(shards, len(through)))
        finally:
            for future in pending:
                future.cancel()
    if damaged:
        first, *others = sorted(damaged)
        more = f", and so with {len(others)} shards more" if others else ""
        command = shell_line("mfsynth", "verify", source.url)
        raise MfsynthError(
            f"{first}; its shard was not copied{more}; all others were; `{command}` says what else "
            "is damaged"
        )


def _copy_shard(
    source: ObjectStore, target: ObjectStore, receipt: Receipt, here: frozenset[str]
) -> None:
    """The objects, and when all have arrived, the receipt."""
    for stored in receipt.objects.values():
        if stored.key not in here or not _holds(target, stored):
            _copy_object(source, target, stored)
    if lacking := lacking_objects(target, receipt):
        raise StoreError(f"{lacking[0]}: it did not arrive as it was sent")
    key = layout.commit_key(receipt.shard)
    try:
        data = source.read_bytes(key)
    except FileNotFoundError as error:
        raise _DamagedError(f"{error} was removed meanwhile") from None
    try:
        is_this = Receipt.from_json(data) == receipt
    except MfsynthError:
        is_this = False
    if not is_this:
        raise _DamagedError(f"{source.url}/{key}: was changed meanwhile")
    shard = receipt.shard
    if not create_receipt(target, shard, data) and read_commit(target, shard) != receipt:
        raise _other_receipts(target, [shard])


def _holds(target: ObjectStore, stored: StoredObject) -> bool:
    try:
        with target.local_copy(stored.key) as path:
            return sha256_of_file(path) == stored.sha256
    except OSError:
        return False


def _copy_object(source: ObjectStore, target: ObjectStore, stored: StoredObject) -> None:
    try:
        with source.local_copy(stored.key) as path:
            _require_sound(path, stored, f"{source.url}/{stored.key}")
            target.put_file(path, stored.key)
    except FileNotFoundError as error:
        raise _DamagedError(f"{error} is missing") from None


def _require_sound(path: Path, stored: StoredObject, where: str) -> None:
    try:
        size = path.stat().st_size
        if size != stored.size:
            raise _DamagedError(f"{where}: {size} bytes, the receipt says {stored.size}")
        if sha256_of_file(path) != stored.sha256:
            raise _DamagedError(f"{where}: its bytes changed (SHA-256 differs)")
    except OSError as error:
        raise _DamagedError(f"{where}: can't be read ({error.strerror or error})") from error


def _copy_documents(
    source: ObjectStore,
    target: ObjectStore,
    run: RunManifest,
    receipts: Mapping[int, Receipt],
    is_more: bool,
) -> tuple[str, ...]:
    """Copy what `finalize` wrote, and a driver before it; gives what does not belong there.

    Args:
        source: The run.
        target: Its copy.
        run: What it is.
        receipts: Of the source.
        is_more: Whether the target has shards beside them.
    """
    found = {}
    for key in layout.DOCUMENT_KEYS:
        with contextlib.suppress(FileNotFoundError):
            data = source.read_bytes(key)
            if _read_or_none(target, key) != data:
                found[key] = data
    if not found:
        return ()
    left_out = [*found] if is_more else stale_documents(source, run, receipts)
    for key, data in found.items():
        if key not in left_out:
            target.put_bytes(key, data)
    return tuple(left_out)


def _copy_energon(
    source: ObjectStore, target: ObjectStore, receipts: Mapping[int, Receipt], is_more: bool
) -> tuple[str, ...]:
    """Write what the source has for Energon, from the receipts; gives what does not belong."""
    if not has_energon(source):
        return ()
    if is_more:
        return (INFO_KEY,)
    wanted = EnergonIndex(receipts, read_index(source, receipts.values()))
    if stale_energon(target, wanted):
        write_energon(target, wanted)
    return ()


def _copy_views(
    source: ObjectStore,
    target: ObjectStore,
    run: RunManifest,
    views: Iterable[View],
    receipts: Mapping[int, Receipt],
) -> list[str]:
    """Copy views and their documents, byte for byte; gives lines on what isn't of these shards."""
    left_out = []
    for view in views:
        try:
            view.receipts_of(receipts)
            data = source.read_bytes(view.key)
            if View.from_bytes(data) != view:
                raise MfsynthError("was replaced meanwhile; copy again")
        except (MfsynthError, FileNotFoundError) as error:
            left_out.append(f"{view.key}: {error}")
            continue
        _bring(target, view.key, data)
        documents, stale = documents_of_view(source, run, view, receipts)
        for key, text in documents.items():
            _bring(target, key, text)
        left_out += [f"{key}: is not what the view comes to" for key in stale]
    return left_out


def _bring(target: ObjectStore, key: str, data: bytes) -> None:
    if _read_or_none(target, key) != data:
        target.put_bytes(key, data)


def _read_or_none(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.read_bytes(key)
    except FileNotFoundError:
        return None
