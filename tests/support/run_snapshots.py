"""Receipts and snapshots of a run with shards of eight candidates."""

from __future__ import annotations

from collections.abc import Iterable

from mfsynth.runs.events import View
from mfsynth.runs.policy import Goal
from mfsynth.runs.watching.snapshot import Snapshot
from mfsynth.shards.records import Receipt
from mfsynth.shards.totals import totals


def receipt(shard, accepted=6, rejected=2, quarantined=0, **reasons) -> Receipt:
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
    counts_pairs=True,
    made=0,
    seconds=0.0,
    in_work=0,
    workers=(),
    failures=None,
) -> Snapshot:
    goal = Goal(target, counts_pairs, 8)
    view = View(in_work, tuple(workers))
    return Snapshot(goal, totals(receipts), view, seconds, made, failures or {})
