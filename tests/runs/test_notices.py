"""Which events are failures, and what is said of them."""

from __future__ import annotations

import pytest
from run_snapshots import receipt

from mfsynth.runs.events import (
    CommitFailed,
    KillWorker,
    ShardCommitted,
    StartAnswered,
    Tick,
    WorkerDied,
    WorkerSaid,
)
from mfsynth.runs.protocol import Failed, FailureCause, NotStarted, Progress, Started, Waiting
from mfsynth.runs.watching.notices import FailureNotice, failure_in


def said(cause):
    return WorkerSaid(3, 5, Failed(cause, "why"))


@pytest.mark.parametrize(
    ("happened", "notice"),
    [
        (WorkerDied(3, "why"), ("worker_died", "worker 3: why", 3)),
        (WorkerDied(3, "why", node_lost=True), ("node_lost", "worker 3: why", 3)),
        (KillWorker(3, "silent"), ("deadline", "worker 3: silent", 3)),
        (StartAnswered(3, NotStarted("why")), ("not_started", "worker 3: why", 3)),
        (
            WorkerDied(3, "why", log="host:/w.err"),
            ("worker_died", "worker 3: why (its log: host:/w.err)", 3),
        ),
        (
            StartAnswered(3, NotStarted("why", log="host:/w.err")),
            ("not_started", "worker 3: why (its log: host:/w.err)", 3),
        ),
        (
            said(FailureCause.OUT_OF_MEMORY),
            ("out_of_memory", "worker 3: out of memory, trying a smaller batch: why", 3, 5),
        ),
        (said(FailureCause.STORE), ("store", "worker 3: trying again later: why", 3, 5)),
        (
            said(FailureCause.ERROR),
            ("error", "worker 3: trying again with a fresh worker: why", 3, 5),
        ),
        (
            WorkerSaid(3, 5, Waiting("why")),
            ("store", "worker 3: shard 5 is kept until it can be written: why", 3, 5),
        ),
        (CommitFailed(5, "why"), ("store", "shard 5 is not committed yet: why", None, 5)),
    ],
)
def test_every_failure_has_a_cause_and_a_line_that_names_its_worker_or_shard(happened, notice):
    assert failure_in(happened) == FailureNotice(*notice)


@pytest.mark.parametrize(
    "happened",
    [
        Tick(),
        KillWorker(3),  # after a failure that its worker told of
        StartAnswered(3, Started()),
        WorkerSaid(3, 5, Progress(40, 0)),
        ShardCommitted(receipt(5)),
    ],
)
def test_the_rest_is_none(happened):
    assert failure_in(happened) is None
