from __future__ import annotations

import pytest

from mfsynth.runs.supervisor import View, WorkerState, WorkerView
from mfsynth.runs.watching.notices import Cause
from mfsynth.runs.watching.snapshot import RunTotals, Snapshot
from mfsynth.shards.records import Receipt


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


def snapshot(totals, made=0, seconds=0.0, in_work=0, workers=(), failures=None) -> Snapshot:
    view = View(totals.gained, in_work, tuple(workers))
    return Snapshot(totals, view, seconds, made, 8, failures or {})


def test_totals_include_earlier_sittings():
    totals = RunTotals.of([receipt(0, registration=2), receipt(1, flying_pixels=2)], 20, "pairs")
    totals.add(receipt(2, 5, 2, 1, registration=2))
    assert (totals.gained, totals.candidates) == (17, 24)
    assert totals.rejects() == "6 rejected (registration 4, flying_pixels 2), 1 quarantined"


def test_the_time_left_follows_rate_and_acceptance():
    totals = RunTotals.of([receipt(0), receipt(1)], 24, "pairs")
    # 12 pairs are missing at 3 in 4: 16 candidates, of which 4 are in work, at 2 a second.
    now = snapshot(totals, made=20, seconds=10.0, in_work=4)
    assert now.rate == pytest.approx(2.0)
    assert now.eta_s == pytest.approx(6.0)
    assert now.advance() == (
        "12/24 pairs, 2 shards, +4 in work, 75% accepted, 2.00 candidates/s, about 6 s left"
    )


def test_nothing_is_claimed_before_anything_is_known():
    assert snapshot(RunTotals.of([], 24, "pairs")).line() == "0/24 pairs, 0 shards; no worker"


def test_a_target_that_is_reached_has_no_time_left():
    done = RunTotals.of([receipt(0, registration=2)], 6, "pairs")
    now = snapshot(done, made=8, seconds=4.0)
    assert now.advance() == "6/6 pairs, 1 shard, 75% accepted, 2.00 candidates/s"


def test_a_target_in_candidates_counts_candidates():
    assert RunTotals.of([receipt(0)], 24, "candidates").gained == 8


def test_workers_are_counted_by_what_they_do_and_failures_by_cause():
    workers = [
        WorkerView(0, WorkerState.MAKING, 3.0, 4, 2),
        WorkerView(1, WorkerState.STARTING, 9.0),
        WorkerView(2, WorkerState.MAKING, 5.0, 5, 0),
    ]
    failures = {Cause.OUT_OF_MEMORY: 1, Cause.WORKER_DIED: 2}
    now = snapshot(RunTotals.of([], 24, "pairs"), workers=workers, failures=failures)
    assert now.workers() == {"starting": 1, "idle": 0, "making": 2, "writing": 0}
    assert now.line() == (
        "0/24 pairs, 0 shards; 1 starting, 2 making; 3 failures (worker died 2, out of memory 1)"
    )
