"""How a run stands, in numbers and in words."""

from __future__ import annotations

import pytest
from run_snapshots import receipt, snapshot

from mfsynth.runs.events import WorkerState, WorkerView
from mfsynth.runs.protocol import FailureCause


def test_all_committed_shards_count_with_the_reasons_of_their_rejects():
    shards = [receipt(0, registration=2), receipt(1, flying_pixels=2)]
    now = snapshot([*shards, receipt(2, 5, 2, 1, registration=2)], target=20)
    assert (now.gained, now.totals.candidates) == (17, 24)
    assert now.rejects_text() == "6 rejected (registration 4, flying_pixels 2), 1 quarantined"


def test_the_time_left_follows_rate_and_acceptance():
    # 12 pairs are missing at 3 in 4: 16 candidates, of which 4 are in work, at 2 a second.
    shards = [receipt(0), receipt(1)]
    now = snapshot(shards, target=24, made=20, seconds=10.0, in_work=4)
    assert now.rate == pytest.approx(2.0)
    assert now.eta_s == pytest.approx(6.0)
    assert now.progress_text() == (
        "12/24 pairs, 2 shards, +4 in work, 75% accepted, 2.00 candidates/s, about 6 s left"
    )


def making(worker, shard, made):
    return WorkerView(worker, WorkerState.MAKING, 1.0, shard, made)


def test_the_last_shard_takes_its_worker_as_long_as_any_other():
    # One pair is missing, and a whole shard is made for it, by one of two workers.
    receipts = [receipt(0), receipt(1)]
    workers = [making(0, 2, 2), WorkerView(1, WorkerState.IDLE, 1.0)]
    now = snapshot(receipts, target=13, made=18, seconds=9.0, in_work=2, workers=workers)
    assert now.eta_s == pytest.approx(6 / 2)
    # A second one that is made in vain shares the rate and is no progress.
    workers = [making(0, 2, 2), making(1, 3, 8)]
    now = snapshot(receipts, target=13, made=26, seconds=13.0, in_work=10, workers=workers)
    assert now.eta_s == pytest.approx(6 / (2 / 2))


def test_a_source_that_ends_before_the_target_ends_the_time_left():
    # 100 pairs are missing, and of the source's 32 candidates 16 are: two shards.
    now = snapshot([receipt(0), receipt(1)], target=112, made=16, seconds=8.0, end=32)
    assert now.eta_s == pytest.approx(16 / 2)
    ended = snapshot([receipt(0), receipt(1)], target=112, made=16, seconds=8.0, end=16)
    assert ended.eta_s == 0


def test_nothing_is_claimed_before_anything_is_known():
    assert snapshot(target=24).line() == "0/24 pairs, 0 shards; no worker"


def test_a_target_that_is_reached_has_no_time_left():
    now = snapshot([receipt(0, registration=2)], target=6, made=8, seconds=4.0)
    assert now.progress_text() == "6/6 pairs, 1 shard, 75% accepted, 2.00 candidates/s"


def test_a_target_in_candidates_counts_candidates():
    assert snapshot([receipt(0)], target=24, counts_pairs=False).gained == 8


def test_workers_are_counted_by_what_they_do_and_failures_by_cause():
    workers = [
        WorkerView(0, WorkerState.MAKING, 3.0, 4, 2),
        WorkerView(1, WorkerState.STARTING, 9.0),
        WorkerView(2, WorkerState.MAKING, 5.0, 5, 0),
    ]
    failures = {FailureCause.OUT_OF_MEMORY: 1, FailureCause.WORKER_DIED: 2}
    now = snapshot(target=24, workers=workers, failures=failures)
    assert now.workers_by_state() == {"starting": 1, "idle": 0, "making": 2, "writing": 0}
    assert now.line() == (
        "0/24 pairs, 0 shards; 1 starting, 2 making; 3 failures (worker died 2, out of memory 1)"
    )
