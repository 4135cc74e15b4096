"""Receipts and snapshots of a run with shards of eight candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mfsynth.runs.events import View, Wait, WorkerView
from mfsynth.runs.policy import Goal
from mfsynth.runs.protocol import FailureCause
from mfsynth.runs.watching.snapshot import Snapshot
from mfsynth.shards.records import Receipt
from mfsynth.shards.totals import totals


def receipt(
    shard: int, accepted: int = 6, rejected: int = 2, quarantined: int = 0, **reasons: int
) -> Receipt:
    return Receipt(
        run="r",
        shard=shard,
        attempt="a",
        first_candidate=8 * shard,
        candidates=8,
        accepted=accepted,
        rejected=rejected,
        quarantined=quarantined,
        objects={},
        seconds={},
        worker="",
        created="",
        reasons=reasons,
    )


def snapshot(
    receipts: Iterable[Receipt] = (),
    *,
    target: int,
    counts_pairs: bool = True,
    made: int = 0,
    seconds: float = 0.0,
    in_work: int = 0,
    workers: Iterable[WorkerView] = (),
    failures: Mapping[FailureCause, int] | None = None,
    waits: Iterable[Wait] = (),
    end: int | None = None,
) -> Snapshot:
    goal = Goal(target, counts_pairs, 8, end=end)
    view = View(in_work, tuple(workers), tuple(waits))
    return Snapshot(goal, totals(receipts), view, seconds, made, failures or {})
