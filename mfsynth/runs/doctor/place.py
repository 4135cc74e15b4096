"""What lies at the place of a run already."""

from __future__ import annotations

from datetime import UTC, datetime

from mfsynth.formatting import size
from mfsynth.runs.doctor.findings import Finding, note, ok, warning
from mfsynth.runs.doctor.scratch import Scratch
from mfsynth.shards.commits import listed
from mfsynth.shards.drivers import driver_at_work
from mfsynth.shards.layout import RUN_KEY
from mfsynth.shards.status import run_status
from mfsynth.storage.exclusive import is_part
from mfsynth.storage.store import ObjectStore


def what_is_there(store: ObjectStore) -> Finding:
    """The state of a run, or what is there instead.

    Raises:
        MfsynthError: What is there of a run can't be read.
    """
    if not store.exists(RUN_KEY):
        other = store.any_key(ignoring=is_part)
        if other is None:
            return ok("nothing: a run may begin here")
        return note(f"no run, but files (such as {other})", "give a run an empty or new folder")
    status = run_status(store)
    seen = (
        f"{status.run}: {status.pairs} pairs of {status.candidates} candidates in "
        f"{status.shards} shards, {size(status.size)}"
    )
    if status.lost_shards:
        lost = f"{status.lost_shards} shards that were committed once are lost"
        return warning(f"{seen}; {lost}", "`mfsynth verify` says more")
    if status.missing_shards:
        gaps = f"gaps: {listed(status.missing_shards)}"
        return warning(f"{seen}; {gaps}", "start the run again to fill them")
    return ok(seen)


def other_drivers(scratch: Scratch) -> Finding:
    """Whether somebody is at work on the run."""
    with scratch.in_use():
        now = scratch.store.clock() or datetime.now(UTC)
    if (heartbeat := driver_at_work(scratch.store, now)) is None:
        return ok("nobody else is at work here")
    return note(
        f"a driver is at work, or a copy ({heartbeat})",
        "another one shares its shards with it; gc waits for its end",
    )
