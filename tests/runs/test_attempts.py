"""What failed before a shard was made."""

from __future__ import annotations

from run_snapshots import receipt
from worker_events import ShardFailed, ShardMade

from mfsynth.runs.attempts import Attempts
from mfsynth.runs.events import Assign, CommitFailed, KillWorker, ShardCommitted, WorkerDied
from mfsynth.runs.protocol import Assignment, FailureCause


def attempts_after(*happened) -> Attempts:
    attempts = Attempts()
    for each in happened:
        attempts.note(each)
    return attempts


def given(worker, shard):
    return Assign(worker, Assignment(shard, "a", 4))


def test_a_shard_has_the_failures_of_its_own_attempts_and_commits():
    attempts = attempts_after(
        given(0, 1),
        given(1, 2),
        WorkerDied(0, "killed"),
        ShardFailed(1, 2, FailureCause.OUT_OF_MEMORY, "no memory"),
        given(2, 1),
        KillWorker(2, "silent"),
        CommitFailed(1, "no answer"),
    )
    assert attempts.failed(1) == {"worker_died": 1, "deadline": 1, "store": 1}
    assert attempts.failed(2) == {"out_of_memory": 1}
    assert attempts.failed(3) == {}


def test_a_worker_that_dies_after_its_shard_was_made_takes_nothing_from_it():
    attempts = attempts_after(given(0, 1), ShardMade(0, receipt(1)), WorkerDied(0, "killed"))
    assert attempts.failed(1) == {}


def test_a_worker_that_is_ended_on_purpose_is_no_failure_of_what_else_it_had():
    """After an error its other shard is given out again, through no fault of its own."""
    failed = ShardFailed(0, 1, FailureCause.ERROR, "odd")
    attempts = attempts_after(given(0, 1), given(0, 2), failed, KillWorker(0))
    assert (attempts.failed(1), attempts.failed(2)) == ({"error": 1}, {})


def test_what_is_committed_is_forgotten():
    assert attempts_after(CommitFailed(1, "x"), ShardCommitted(receipt(1))).failed(1) == {}
