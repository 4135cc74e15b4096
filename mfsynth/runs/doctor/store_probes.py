"""What the store of a run can do."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from mfsynth.errors import MfsynthError
from mfsynth.formatting import duration
from mfsynth.runs.doctor.findings import Finding, Probe, error, note, ok, warning
from mfsynth.runs.doctor.scratch import Scratch
from mfsynth.storage import atomic

STORE = "store"
# At once, as drivers might.
_CREATES = 8
_LISTING_LIMIT_S = 10.0
# Object stores date in whole seconds.
_CLOCK_GRAIN_S = 1.0
_CLOCK_NOTED_S = 5.0
_CLOCK_WRONG_S = 60.0


def store_probes(scratch: Scratch) -> Sequence[Probe]:
    """All there is to ask a store by writing to it."""
    needs = (STORE,)
    probes = [
        Probe(STORE, lambda: answers(scratch)),
        Probe("conditional create", lambda: creates_once(scratch, racing=True), needs=needs),
        Probe("listing", lambda: lists_what_is_written(scratch), needs=needs),
        Probe("clock", lambda: clocks_agree(scratch), needs=needs),
    ]
    if scratch.store.local_root is not None:
        probes += [
            Probe("links", lambda: has_links(scratch), needs=needs),
            Probe("flush", lambda: flushes(scratch), needs=needs),
        ]
    return probes


def answers(scratch: Scratch) -> Finding:
    """Whether objects can be written, read and deleted."""
    store, data = scratch.store, os.urandom(1000)
    with scratch.key() as key:
        began = time.monotonic()
        store.put_bytes(key, data)
        if store.read_bytes(key) != data:
            return error("what is read is not what was written", "give another place")
        store.delete(key)
        seconds = (time.monotonic() - began) / 3
        if store.exists(key):
            return warning(
                "what was deleted is still there", "give the right to delete, or gc frees nothing"
            )
    return ok(f"is written, read and deleted, {1000 * seconds:.0f} ms each")


def creates_once(scratch: Scratch, *, racing: bool = False) -> Finding:
    """Whether of several creates of one key exactly one wins.

    Args:
        scratch: Where.
        racing: Whether to try it at once, too, and not only one after the other.
    """
    url = scratch.store.url
    ignored = warning(f"{url} ignores conditional writes", "give it one driver at a time")
    with scratch.in_use():
        if not scratch.store.honours_create_if_absent():
            return ignored
    if not racing:
        return ok("a second create is refused")
    with scratch.key() as key, ThreadPoolExecutor(_CREATES) as threads:
        offered = [f"{number}".encode() for number in range(_CREATES)]
        won = [*threads.map(lambda data: scratch.store.create_if_absent(key, data), offered)]
        stored = scratch.store.read_bytes(key)
    # Nobody has won where the answer to the winner was lost.
    winners = [data for data, has_won in zip(offered, won, strict=True) if has_won]
    if len(winners) > 1 or stored not in (winners or offered):
        return ignored
    return ok(f"of {_CREATES} at once one wins")


def lists_what_is_written(scratch: Scratch) -> Finding:
    """How long a listing takes to show what is written."""
    with scratch.key() as key:
        scratch.store.put_bytes(key, b"1")
        began = time.monotonic()
        while not any(entry.key == key for entry in scratch.store.top_level()):
            waited = time.monotonic() - began
            if waited > _LISTING_LIMIT_S:
                return warning(
                    f"doesn't show after {waited:.0f} s what was written",
                    "before a run is read or resumed, wait until it does",
                )
            time.sleep(0.2)
        waited = time.monotonic() - began
    if waited > 1:
        return note(f"shows after {waited:.0f} s what was written: so long readers may see less")
    return ok("shows at once what was written")


def clocks_agree(scratch: Scratch) -> Finding:
    """How far the store's clock is from this machine's."""
    with scratch.in_use():
        before = datetime.now(UTC)
        there = scratch.store.clock()
        after = datetime.now(UTC)
    if there is None:
        return note("the store dates nothing: gc takes all that it finds for new")
    grain = timedelta(seconds=_CLOCK_GRAIN_S)
    off = max(before - grain - there, there - after - grain, timedelta()).total_seconds()
    if off < _CLOCK_NOTED_S:
        return ok("the store's is this machine's")
    side = "behind" if there < before else "ahead of"
    seen = f"the store's is {duration(off)} {side} this machine's"
    if off < _CLOCK_WRONG_S:
        return note(seen, "times in `mfsynth status` are off by as much")
    return warning(
        seen,
        "set this machine's, or the store's: times in receipts, certificates and requests to "
        "object stores depend on it",
    )


def has_links(scratch: Scratch) -> Finding:
    """Whether there are hard links, by which receipts are created."""
    root = scratch.store.local_root
    assert root is not None
    with scratch.key() as key, scratch.key() as linked:
        scratch.store.put_bytes(key, b"1")
        try:
            os.link(root / key, root / linked)
        except OSError as problem:
            reason = f"no hard links here ({problem.strerror or problem})"
        else:
            return ok("hard links")
    try:
        with scratch.key() as key:
            scratch.store.create_if_absent(key, b"1")
    except MfsynthError:
        return error(reason, "receipts are created by them: give another place")
    return note(f"{reason}; receipts are created without")


def flushes(scratch: Scratch) -> Finding:
    """Whether a folder's names can be forced to the disk."""
    root = scratch.store.local_root
    assert root is not None
    # What a run does, which knows file systems that can't.
    atomic.flush(root)
    descriptor = os.open(root, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        return note(
            f"folders are not flushed here ({problem.strerror or problem}): a power cut may take "
            "the newest receipts with it, whose shards are made again"
        )
    finally:
        os.close(descriptor)
    return ok("folders are forced to the disk")
