"""The laws of the supervisor, on simulated worlds: no Ray, no files, no clock."""

from __future__ import annotations

import random
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_events import (
    BatchStarted,
    ShardFailed,
    ShardMade,
    ShardWaits,
    WorkerCanNotStartYet,
    WorkerFailedToStart,
    WorkerReady,
)

from mfsynth.runs.events import (
    Assign,
    Commit,
    CommitFailed,
    Drain,
    Finish,
    KillWorker,
    Outcome,
    PlacesChanged,
    ShardCommitted,
    ShardLost,
    StartAnswered,
    StartWorker,
    Tick,
    WaitCause,
    WorkerDied,
    WorkerSaid,
)
from mfsynth.runs.ledger import ATTEMPTS_AT_ONCE
from mfsynth.runs.policy import Policy
from mfsynth.runs.protocol import Failed, FailureCause
from mfsynth.runs.retries import MAX_QUARANTINED_PER_SHARD
from mfsynth.runs.supervisor import Supervisor
from mfsynth.shards.records import Receipt

SHARD_SIZE = 8
FAULTS = ("die", "hang", "oom", "store", "other")
# What a worker may still say of a shard when it is given the next one.
WRITTEN = (ShardMade, WorkerDied, ShardFailed, ShardWaits)


def policy(**changes) -> Policy:
    values = {
        "target": 20,
        "counts_pairs": True,
        "shard_size": SHARD_SIZE,
        "workers": 3,
        "batch_size": 4,
        "deadline_s": 100.0,
        "max_attempts": 3,
        "patience_s": 0.0,
    }
    return Policy(**(values | changes))


def receipt(shard: int, accepted: int, attempt: str = "a", quarantined: int = 0) -> Receipt:
    return Receipt(
        run="test",
        shard=shard,
        attempt=attempt,
        first_candidate=shard * SHARD_SIZE,
        candidates=SHARD_SIZE,
        accepted=accepted,
        rejected=SHARD_SIZE - accepted - quarantined,
        quarantined=quarantined,
        objects={},
        seconds={},
        worker="here",
        created="2025-01-01T00:00:00+00:00",
    )


def minimal_prefix(gains, target: int) -> list[int]:
    total, shards = 0, []
    for shard in count():
        if total >= target:
            return shards
        total += gains(shard)
        shards.append(shard)
    raise AssertionError


class World:
    """Workers and a store that obey a supervisor and fail at random.

    Every fault spends from a budget, so that a world of finite troubles must end in success.
    `toxic` candidates kill any worker that makes them. `store` outlives its drivers. A worker
    makes one shard and writes another, in any order of their events.
    """

    def __init__(
        self,
        rng,
        accepted,
        *,
        faults=0,
        toxic=(),
        birth=0.1,
        chance=0.1,
        moves=0,
        patience=10_000,
    ):
        self.rng = rng
        self.accepted = accepted
        self.faults = faults
        self.toxic = frozenset(toxic)
        self.birth, self.chance = birth, chance
        self.moves = moves
        self.places = 0
        self.store: dict[int, Receipt] = {}
        self.now = 0.0
        self.steps = patience
        self.commits: list[Receipt] = []
        self.quarantined: dict[int, str] = {}
        self.assignments = []
        self.second_attempts = 0
        self.lost = 0
        self.names = count()
        self.pending: list[Receipt] = []
        self.asked: dict[int, str] = {}

    def trouble(self, chance: float) -> bool:
        if self.faults > 0 and self.rng.random() < chance:
            self.faults -= 1
            return True
        return False

    def run(self, policy: Policy, *, stop_after=None, drain_after=None) -> Finish | None:
        """Drive a new supervisor to its end, or kill it after `stop_after` events."""
        token = self.rng.getrandbits(32)
        supervisor = Supervisor(
            policy,
            list(self.store.values()),
            lambda: f"{token:x}-{next(self.names)}",
            random.Random(0),
        )
        self.pending, self.asked = [], {}
        self.places = policy.workers
        workers: dict[int, dict] = {}  # worker → shard (None: its start) → script of events
        todo = supervisor.begin(self.now)
        for step in count():
            finish = self.carry_out(todo, workers)
            if finish is not None:
                assert supervisor.finished
                return finish
            if step == stop_after:
                return None
            self.steps -= 1
            assert self.steps > 0, "the run does not end"
            if step == drain_after:
                todo = supervisor.handle(Drain(), self.now)
                continue
            ready = [
                (number, shard)
                for number, scripts in workers.items()
                for shard, script in scripts.items()
                if script
            ]
            # A cluster without a node gets one before anyone loses patience.
            deserted = not self.places and not ready and not self.pending
            if self.moves and (deserted or self.rng.random() < 0.2):
                todo = supervisor.handle(self.move(workers), self.now)
                continue
            if self.pending and (not ready or self.rng.random() < 0.5):
                todo = supervisor.handle(self.commit(self.pending.pop(0)), self.now)
            elif ready and self.rng.random() < 0.9:
                number, shard = self.rng.choice(ready)
                event = workers[number][shard].pop(0)
                if event is None:  # it hangs, and says nothing ever again
                    workers[number][shard], todo = [], []
                    continue
                self.now += self.rng.random()
                if isinstance(event, WorkerDied):
                    del workers[number]
                elif isinstance(event, (ShardMade, ShardFailed, StartAnswered)):
                    del workers[number][shard]
                todo = supervisor.handle(event, self.now)
            else:
                wake = supervisor.wake_at()
                assert wake is not None or ready, "nothing will ever happen again"
                if not ready or self.trouble(0.3):  # else nobody is so slow as to be silent
                    self.now = max(self.now, wake or 0.0)
                todo = supervisor.handle(Tick(), self.now)

    def move(self, workers):
        """A node comes, or goes with a worker or before one was on it."""
        self.moves -= 1
        if workers and self.moves and self.rng.random() < 0.5:
            lost = self.rng.choice([*workers])
            del workers[lost]
            return WorkerDied(lost, "node lost", node_lost=True)
        # The last change gives room, or the run would rightly end without having finished.
        self.places = self.rng.randint(0 if self.moves else 1, 6)
        return PlacesChanged(self.places)

    def carry_out(self, actions, workers) -> Finish | None:
        for action in actions:
            match action:
                case StartWorker(worker):
                    assert worker not in workers
                    assert len(workers) < self.places
                    if self.trouble(self.birth):
                        script = [WorkerDied(worker, "died at birth")]
                    elif self.trouble(self.birth):
                        script = [None]
                    elif self.trouble(self.birth):
                        script = [WorkerCanNotStartYet(worker, "store")]
                    else:
                        script = [WorkerReady(worker)]
                    workers[worker] = {None: script}
                case KillWorker(worker):
                    workers.pop(worker, None)
                case Assign(worker, assignment):
                    self.assign(workers[worker], worker, assignment, workers)
                case Commit(receipt):
                    attempt = self.asked.setdefault(receipt.shard, receipt.attempt)
                    assert attempt == receipt.attempt, "two attempts were to be committed"
                    self.pending.append(receipt)
                case Finish():
                    self.pending = []
                    return action
        return None

    def assign(self, scripts, worker, assignment, workers):
        # One shard is made at a time; another may be written beside it, none beside an isolated.
        assert all(not s or isinstance(s[0], WRITTEN) or s[0] is None for s in scripts.values())
        assert len(scripts) <= (0 if assignment.isolate else 1)
        attempts = sum(assignment.shard in other for other in workers.values())
        assert attempts < ATTEMPTS_AT_ONCE
        self.second_attempts += attempts
        self.assignments.append(assignment)
        scripts[assignment.shard] = self.script(worker, assignment)

    def script(self, worker, assignment):
        shard = assignment.shard
        first = shard * SHARD_SIZE
        events = []
        done = 0
        todo = [c for c in range(first, first + SHARD_SIZE) if c not in assignment.quarantined]
        for at in range(0, len(todo), assignment.batch_size):
            batch = todo[at : at + assignment.batch_size]
            events.append(BatchStarted(worker, shard, batch[0], done))
            if self.toxic & set(batch):
                return [*events, WorkerDied(worker, "toxic")]
            if self.trouble(self.chance):
                return [*events, self.fault(worker, shard, FAULTS)]
            done += len(batch)
        made = receipt(
            shard,
            min(self.accepted(shard), done),
            assignment.attempt,
            len(assignment.quarantined),
        )
        self.quarantined |= assignment.quarantined
        events.append(BatchStarted(worker, shard, None, done))
        while self.trouble(0.5 * self.chance):
            events.append(ShardWaits(worker, shard, "store"))
        if self.trouble(self.chance):
            return [*events, self.fault(worker, shard, ("die", "hang", "store"))]
        return [*events, ShardMade(worker, made)]

    def fault(self, worker, shard, kinds):
        return {
            "die": WorkerDied(worker, "killed"),
            "hang": None,
            "oom": ShardFailed(worker, shard, FailureCause.OUT_OF_MEMORY, "memory"),
            "store": ShardFailed(worker, shard, FailureCause.STORE, "store"),
            "other": ShardFailed(worker, shard, FailureCause.ERROR, "bug"),
        }[self.rng.choice(kinds)]

    def commit(self, receipt):
        """What the driver does: look, create if absent, then report what the store holds."""
        if receipt.shard not in self.store and self.trouble(0.1):
            self.lost += 1
            del self.asked[receipt.shard]  # another attempt's turn
            return ShardLost(receipt.shard, "not in the store")
        if self.trouble(0.1):
            if self.rng.random() < 0.5:  # written, but the acknowledgement was lost
                self.write(receipt)
            return CommitFailed(receipt.shard, "store")
        self.write(receipt)
        return ShardCommitted(self.store[receipt.shard])

    def write(self, receipt):
        if receipt.shard not in self.store:
            self.store[receipt.shard] = receipt
            self.commits.append(receipt)


def gains_of(seed: int, mean: float = 0.6):
    """A shard's accepted pairs: a pure function of the seed and the shard."""

    def gains(shard: int) -> int:
        rng = random.Random(f"{seed}/{shard}")
        return sum(rng.random() < mean for _ in range(SHARD_SIZE))

    return gains


# Limits that finite troubles cannot exhaust.
PATIENT = {"max_attempts": 1000, "patience_s": 1e6}


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 6),
    target=st.integers(1, 60),
    faults=st.integers(0, 30),
)
def test_committed_shards_are_the_shortest_prefix_for_any_order_and_any_faults(
    seed, workers, target, faults
):
    gains = gains_of(seed)
    world = World(random.Random(seed), gains, faults=faults)
    finish = world.run(policy(workers=workers, target=target, **PATIENT))
    assert finish == Finish(Outcome.FINISHED)
    assert sorted(world.store) == minimal_prefix(gains, target)
    assert len(world.commits) == len(world.store)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    target=st.integers(1, 60),
    kills=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 6)), max_size=6),
)
def test_a_run_killed_anywhere_and_resumed_with_any_workers_commits_the_same_shards(
    seed, target, kills
):
    gains = gains_of(seed)
    world = World(random.Random(seed), gains, faults=10)
    for stop_after, workers in kills:
        world.run(policy(workers=workers, target=target, **PATIENT), stop_after=stop_after)
        assert sorted(world.store)[-1:] <= minimal_prefix(gains, target)[-1:]
    finish = world.run(policy(workers=2, target=target, **PATIENT))
    assert finish == Finish(Outcome.FINISHED)
    assert sorted(world.store) == minimal_prefix(gains, target)
    assert len(world.commits) == len(world.store)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    first=st.integers(1, 80),
    second=st.integers(1, 80),
    stop_after=st.integers(0, 80),
)
def test_a_target_changed_between_sessions_leaves_no_gap(seed, first, second, stop_after):
    gains = gains_of(seed)
    world = World(random.Random(seed), gains)
    world.run(policy(workers=5, target=first), stop_after=stop_after)
    before = set(world.store)
    finish = world.run(policy(target=second))
    assert finish == Finish(Outcome.FINISHED)
    # What an earlier, larger target committed stays, with the gap below it filled.
    highest = max([*before, *minimal_prefix(gains, second)])
    assert sorted(world.store) == list(range(highest + 1))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), target=st.integers(1, 60), workers=st.integers(1, 6))
def test_a_target_in_candidates_commits_whole_shards_whatever_is_accepted(seed, target, workers):
    world = World(random.Random(seed), lambda shard: 0, faults=5)
    finish = world.run(policy(target=target, counts_pairs=False, workers=workers, **PATIENT))
    assert finish == Finish(Outcome.FINISHED)
    assert sorted(world.store) == list(range(-(-target // SHARD_SIZE)))


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 4),
    toxic=st.sets(st.integers(0, 39), max_size=MAX_QUARANTINED_PER_SHARD - 1),
    max_attempts=st.integers(1, 3),
)
def test_only_the_candidates_that_kill_their_worker_are_quarantined(
    seed, workers, toxic, max_attempts
):
    world = World(random.Random(seed), lambda shard: SHARD_SIZE, toxic=toxic)
    finish = world.run(
        policy(target=40, counts_pairs=False, workers=workers, max_attempts=max_attempts)
    )
    assert finish == Finish(Outcome.FINISHED)
    assert world.quarantined == dict.fromkeys(toxic, "toxic")
    assert sorted(world.store) == list(range(5))


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 4),
    max_attempts=st.integers(1, 4),
    birth=st.sampled_from([0.0, 0.2, 0.9, 1.0]),
    chance=st.sampled_from([0.2, 0.5, 1.0]),
    patience_s=st.sampled_from([0.0, 300.0]),
)
def test_a_world_that_never_stops_failing_still_ends_with_a_reason(
    seed, workers, max_attempts, birth, chance, patience_s
):
    gains = gains_of(seed)
    world = World(
        random.Random(seed), gains, faults=10**9, birth=birth, chance=chance, patience=20_000
    )
    finish = world.run(
        policy(workers=workers, target=40, max_attempts=max_attempts, patience_s=patience_s)
    )
    assert finish is not None
    if finish.outcome is Outcome.FAILED:
        assert finish.reason
    assert len(world.commits) == len(world.store)
    assert chance < 1 or finish.outcome is Outcome.FAILED


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    drain_after=st.integers(0, 80),
    workers=st.integers(1, 4),
)
def test_a_drained_run_ends_and_keeps_what_is_whole(seed, drain_after, workers):
    gains = gains_of(seed)
    world = World(random.Random(seed), gains, faults=10)
    finish = world.run(policy(workers=workers, target=60, **PATIENT), drain_after=drain_after)
    assert finish is not None
    assert finish.outcome in {Outcome.DRAINED, Outcome.FINISHED}
    finish = world.run(policy(target=60, **PATIENT))
    assert finish == Finish(Outcome.FINISHED)
    assert sorted(world.store) == minimal_prefix(gains, 60)


def new(committed=(), **changes) -> Supervisor:
    names = count()
    return Supervisor(policy(**changes), committed, lambda: f"a{next(names)}", random.Random(0))


def one(actions, kind):
    (action,) = [a for a in actions if isinstance(a, kind)]
    return action


def with_one_worker(**changes) -> tuple[Supervisor, Assign]:
    supervisor = new(workers=1, **changes)
    worker = one(supervisor.begin(0.0), StartWorker).worker
    return supervisor, one(supervisor.handle(WorkerReady(worker), 0.0), Assign)


def test_when_no_worker_can_start_the_run_ends_at_once_with_the_cause():
    supervisor = new(workers=2, target=100)
    started = [a.worker for a in supervisor.begin(0.0)]
    assert len(started) == 2
    assert not any(
        isinstance(a, Finish)
        for a in supervisor.handle(WorkerFailedToStart(started[0], "no such model"), 0.0)
    )
    finish = one(supervisor.handle(WorkerFailedToStart(started[1], "no such model"), 0.0), Finish)
    assert finish == Finish(Outcome.FAILED, "no worker could start: no such model")


def test_a_worker_that_dies_while_it_starts_is_started_again():
    supervisor = new(workers=1)
    worker = one(supervisor.begin(0.0), StartWorker).worker
    assert supervisor.handle(WorkerDied(worker, "killed"), 0.0) == []
    again = one(supervisor.handle(Tick(), supervisor.wake_at()), StartWorker)
    assert again.worker != worker


def test_a_silent_worker_is_killed_and_its_shard_goes_to_another():
    supervisor, assign = with_one_worker(deadline_s=10.0)
    assert supervisor.handle(BatchStarted(assign.worker, 0, 0, 0), 9.0) == []
    assert supervisor.wake_at() == 19.0
    actions = supervisor.handle(Tick(), 19.0)
    assert one(actions, KillWorker).worker == assign.worker
    fresh = one(actions, StartWorker).worker
    retry = one(supervisor.handle(WorkerReady(fresh), 20.0), Assign)
    assert retry.assignment.shard == assign.assignment.shard
    assert retry.assignment.attempt != assign.assignment.attempt


def test_what_a_killed_worker_says_is_not_listened_to():
    supervisor, assign = with_one_worker(deadline_s=10.0)
    supervisor.handle(Tick(), 10.0)
    late = supervisor.handle(ShardMade(assign.worker, receipt(0, 8)), 11.0)
    assert not any(isinstance(a, Commit) for a in late)


def test_out_of_memory_halves_the_batch_and_keeps_the_worker():
    supervisor, assign = with_one_worker(batch_size=4)
    oom = ShardFailed(assign.worker, 0, FailureCause.OUT_OF_MEMORY, "memory")
    actions = supervisor.handle(oom, 1.0)
    assert not any(isinstance(a, KillWorker) for a in actions)
    assert one(actions, Assign).assignment.batch_size == 2


def test_out_of_memory_with_a_batch_of_one_is_a_failure_like_any_other():
    supervisor, assign = with_one_worker(batch_size=1)
    oom = ShardFailed(assign.worker, 0, FailureCause.OUT_OF_MEMORY, "memory")
    assert one(supervisor.handle(oom, 1.0), KillWorker).worker == assign.worker


def test_a_store_error_waits_and_then_ends_the_run_with_its_own_words():
    supervisor, assign = with_one_worker(max_attempts=2, target=16, counts_pairs=False)
    error = ShardFailed(assign.worker, 0, FailureCause.STORE, "disk full")
    # The other shard of the target may go on; the failed one waits.
    actions = supervisor.handle(error, 1.0)
    assert all(a.assignment.shard != 0 for a in actions if isinstance(a, Assign))
    other = one(actions, Assign)
    supervisor.handle(ShardMade(other.worker, receipt(other.assignment.shard, 8)), 1.1)
    retry = one(supervisor.handle(Tick(), 100.0), Assign)
    assert retry.assignment.shard == 0
    finish = one(supervisor.handle(error, 101.0), Finish)
    assert finish == Finish(Outcome.FAILED, "disk full (given up after 2 min: runtime.patience)")


def test_what_waiting_does_not_help_ends_the_run_however_patient_it_is():
    supervisor, assign = with_one_worker(max_attempts=1, patience_s=1e6)
    refused = WorkerSaid(
        assign.worker, 0, Failed(FailureCause.STORE, "credentials expired", may_pass=False)
    )
    finish = one(supervisor.handle(refused, 1.0), Finish)
    assert finish == Finish(Outcome.FAILED, "credentials expired")
    supervisor, assign = with_one_worker(max_attempts=1, target=8, patience_s=1e6)
    supervisor.handle(ShardMade(assign.worker, receipt(0, 8)), 1.0)
    finish = one(supervisor.handle(CommitFailed(0, "no such bucket", may_pass=False), 2.0), Finish)
    assert finish == Finish(Outcome.FAILED, "no such bucket")


def test_a_shard_is_kept_until_the_store_takes_it_and_nobody_is_killed_meanwhile():
    supervisor, assign = with_one_worker(
        deadline_s=100.0, patience_s=3600.0, target=8, counts_pairs=False
    )
    supervisor.handle(BatchStarted(assign.worker, 0, None, 8), 1.0)
    for now in range(60, 3000, 60):
        assert supervisor.handle(ShardWaits(assign.worker, 0, "disk full"), float(now)) == []
    (wait,) = supervisor.view().waits
    assert (wait.cause, wait.text) == (WaitCause.STORE, "disk full")
    assert (wait.seconds, wait.left_s) == (2900.0 - 20.0, 3600.0 - 2880.0)
    made = ShardMade(assign.worker, receipt(0, 8, assign.assignment.attempt))
    assert one(supervisor.handle(made, 3000.0), Commit)
    assert supervisor.view().waits == ()


@pytest.mark.parametrize("max_attempts", [2, 1000])
def test_patience_has_an_end_that_says_how_long_it_was(max_attempts):
    supervisor, assign = with_one_worker(
        max_attempts=max_attempts, deadline_s=100.0, patience_s=600.0, target=8, counts_pairs=False
    )
    supervisor.handle(BatchStarted(assign.worker, 0, None, 8), 1.0)
    actions, now = [], 0.0
    while not actions:
        now += 60.0
        actions = supervisor.handle(ShardWaits(assign.worker, 0, "disk full"), now)
    assert actions == [
        Finish(Outcome.FAILED, "disk full (given up after 10 min: runtime.patience)")
    ]


def test_a_run_that_is_asked_to_stop_waits_for_a_store_no_longer_than_a_minute_or_two():
    supervisor, assign = with_one_worker(patience_s=1e6, target=8, counts_pairs=False)
    supervisor.handle(BatchStarted(assign.worker, 0, None, 8), 1.0)
    for now in (10.0, 40.0, 90.0):
        supervisor.handle(ShardWaits(assign.worker, 0, "disk full"), now)
    assert supervisor.handle(Drain(), 100.0) == []
    (wait,) = supervisor.view().waits
    assert (wait.seconds, wait.left_s) == (90.0, 60.0)
    assert supervisor.handle(ShardWaits(assign.worker, 0, "disk full"), 150.0) == []
    end = one(supervisor.handle(ShardWaits(assign.worker, 0, "disk full"), 200.0), Finish)
    assert end.outcome is Outcome.DRAINED
    assert "the shards in work are lost, nothing else: disk full" in end.reason


def test_workers_that_can_not_start_yet_are_started_again_until_patience_ends():
    supervisor = new(workers=1, patience_s=600.0)
    actions, now = supervisor.begin(0.0), 0.0
    while not any(isinstance(action, Finish) for action in actions):
        for action in actions:
            if isinstance(action, StartWorker):
                actions = supervisor.handle(WorkerCanNotStartYet(action.worker, "no store"), now)
                break
        else:
            (wait,) = supervisor.view().waits
            assert wait.cause is WaitCause.WORKERS
            now = supervisor.wake_at()
            actions = supervisor.handle(Tick(), now)
    assert 600.0 <= now <= 700.0
    assert "no store (given up after" in one(actions, Finish).reason


def test_a_shard_that_is_not_in_the_store_is_made_again_and_ends_the_run_if_it_never_is():
    supervisor, assign = with_one_worker(max_attempts=2, target=8, counts_pairs=False)
    made = ShardMade(assign.worker, receipt(0, 8))
    assert one(supervisor.handle(made, 1.0), Commit).receipt.shard == 0
    assert supervisor.handle(ShardLost(0, "its tar is missing"), 2.0) == []
    again = one(supervisor.handle(Tick(), supervisor.wake_at()), Assign)
    assert again.assignment.shard == 0
    assert again.assignment.attempt != assign.assignment.attempt
    heir = receipt(0, 8, again.assignment.attempt)
    assert one(supervisor.handle(ShardMade(again.worker, heir), 50.0), Commit).receipt == heir
    finish = one(supervisor.handle(ShardLost(0, "its tar is missing"), 51.0), Finish)
    assert finish == Finish(Outcome.FAILED, "its tar is missing")


def test_a_shard_that_is_lost_when_another_driver_has_committed_it_is_not_made_again():
    supervisor, assign = with_one_worker(target=8, counts_pairs=False)
    supervisor.handle(ShardMade(assign.worker, receipt(0, 8)), 1.0)
    end = supervisor.handle(ShardCommitted(receipt(0, 8, "other")), 2.0)
    assert end == [Finish(Outcome.FINISHED)]
    supervisor, assign = with_one_worker(target=16, counts_pairs=False)
    supervisor.handle(ShardMade(assign.worker, receipt(0, 8)), 1.0)
    supervisor.handle(ShardCommitted(receipt(0, 8, "other")), 2.0)
    assert supervisor.handle(ShardLost(0, "late"), 3.0) == []


def test_a_second_attempt_that_is_under_way_takes_the_place_of_one_that_is_lost():
    supervisor, second, actions = two_shards_one_late(15.0, batch_size=8)
    copy = one(actions, Assign)
    supervisor.handle(ShardMade(copy.worker, receipt(1, 8, "copy")), 16.0)
    supervisor.handle(ShardLost(1, "gone"), 17.0)
    commits = supervisor.handle(ShardMade(second.worker, receipt(1, 8, "first")), 30.0)
    assert one(commits, Commit).receipt.attempt == "first"


def test_a_shard_that_may_not_be_needed_is_held_and_then_dropped():
    supervisor = new(workers=2, target=9)
    first, second = (a.worker for a in supervisor.begin(0.0))
    assert one(supervisor.handle(WorkerReady(first), 0.0), Assign).assignment.shard == 0
    assert one(supervisor.handle(WorkerReady(second), 0.0), Assign).assignment.shard == 1
    supervisor.handle(ShardMade(second, receipt(1, 8)), 1.0)
    # Shard 2 is speculative: 0 and 1 alone may reach 9.
    third = supervisor.handle(ShardMade(second, receipt(1, 8)), 1.0)
    assert not any(isinstance(a, Commit) and a.receipt.shard > 1 for a in third)
    commit = one(supervisor.handle(ShardMade(first, receipt(0, 8)), 2.0), Commit)
    assert commit.receipt.shard == 0


def test_a_shard_committed_by_another_driver_counts_and_is_not_made_again():
    supervisor, assign = with_one_worker(target=16, counts_pairs=False)
    supervisor.handle(ShardCommitted(receipt(1, 8, "other")), 1.0)
    actions = supervisor.handle(ShardMade(assign.worker, receipt(0, 8)), 2.0)
    assert not any(isinstance(a, Assign) for a in actions)
    assert one(actions, Commit).receipt.shard == 0
    end = supervisor.handle(ShardCommitted(receipt(0, 8)), 3.0)
    assert end == [Finish(Outcome.FINISHED)]


def test_a_finished_run_starts_no_worker():
    assert new([receipt(0, 8), receipt(1, 8), receipt(2, 8)], target=20).begin(0.0) == [
        Finish(Outcome.FINISHED)
    ]


def test_a_run_that_accepts_nothing_stops_and_says_so():
    world = World(random.Random(0), lambda shard: 0)
    finish = world.run(policy(target=1))
    assert finish is not None
    assert finish.outcome is Outcome.FAILED
    assert "none of the last 512 candidates was accepted" in finish.reason


def test_when_every_candidate_fails_the_run_stops_instead_of_quarantining_on():
    world = World(random.Random(0), lambda shard: 8, toxic=range(10**4))
    finish = world.run(policy())
    assert finish is not None
    assert finish.outcome is Outcome.FAILED
    assert "toxic" in finish.reason
    assert not world.store


@pytest.mark.parametrize("workers", [1, 4])
def test_no_more_workers_are_started_than_there_is_work(workers):
    started = new(workers=workers, target=8, counts_pairs=False).begin(0.0)
    assert started == [StartWorker(0)]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(0, 6),
    target=st.integers(1, 60),
    moves=st.integers(1, 40),
    faults=st.integers(0, 15),
)
def test_nodes_that_come_and_go_change_nothing_of_what_is_committed(
    seed, workers, target, moves, faults
):
    gains = gains_of(seed)
    world = World(random.Random(seed), gains, faults=faults, moves=moves)
    finish = world.run(policy(workers=workers, target=target, **PATIENT))
    assert finish == Finish(Outcome.FINISHED)
    assert sorted(world.store) == minimal_prefix(gains, target)
    assert not world.quarantined


def test_second_attempts_and_lost_shards_are_part_of_these_worlds():
    made = lost = 0
    for seed in range(40):
        world = World(random.Random(seed), gains_of(seed), faults=15)
        assert world.run(policy(workers=6, target=40, **PATIENT)) == Finish(Outcome.FINISHED)
        made += world.second_attempts
        lost += world.lost
    assert made
    assert lost


def ready(supervisor, actions, now=0.0):
    """All workers that were started are ready; the assignments that follow."""
    started = [a.worker for a in actions if isinstance(a, StartWorker)]
    given = [a for n in started for a in supervisor.handle(WorkerReady(n), now)]
    return [a for a in given if isinstance(a, Assign)]


def test_a_worker_that_only_has_to_write_its_shard_takes_the_next_one():
    supervisor, first = with_one_worker(target=24, counts_pairs=False)
    assert supervisor.handle(BatchStarted(first.worker, 0, 4, 4), 1.0) == []
    second = one(supervisor.handle(BatchStarted(first.worker, 0, None, 8), 2.0), Assign)
    assert (second.worker, second.assignment.shard) == (first.worker, 1)
    # One to make and one to write is all that it can take.
    assert supervisor.handle(BatchStarted(first.worker, 1, None, 8), 3.0) == []
    actions = supervisor.handle(ShardMade(first.worker, receipt(0, 8)), 4.0)
    assert one(actions, Commit).receipt.shard == 0
    assert one(actions, Assign).assignment.shard == 2


def test_a_death_frees_both_shards_of_a_worker():
    supervisor, first = with_one_worker(target=24, counts_pairs=False)
    supervisor.handle(BatchStarted(first.worker, 0, None, 8), 1.0)
    actions = supervisor.handle(WorkerDied(first.worker, "killed"), 2.0)
    again = ready(supervisor, actions, 3.0)
    assert [a.assignment.shard for a in again] == [0]
    worker = again[0].worker
    follows = supervisor.handle(BatchStarted(worker, 0, None, 8), 4.0)
    assert one(follows, Assign).assignment.shard == 1


def two_shards_one_late(now, **changes):
    """Worker 0 made shard 0 in 10 s; worker 1 is at shard 1 since 0 s. What follows at `now`."""
    supervisor = new(workers=2, target=16, counts_pairs=False, **changes)
    first, second = ready(supervisor, supervisor.begin(0.0))
    supervisor.handle(BatchStarted(second.worker, 1, 8, 0), 0.0)
    actions = supervisor.handle(
        ShardMade(first.worker, receipt(0, 8, first.assignment.attempt)), 10.0
    )
    assert one(actions, Commit)
    return supervisor, second, [*actions[1:], *supervisor.handle(Tick(), now)]


def test_a_silent_straggler_is_given_to_an_idle_worker_too_and_the_first_to_finish_counts():
    supervisor, second, actions = two_shards_one_late(11.9, batch_size=8)
    assert actions == []
    assert supervisor.wake_at() == 12.0
    copy = one(supervisor.handle(Tick(), 12.0), Assign)
    assert copy.worker != second.worker
    assert copy.assignment.shard == 1
    assert copy.assignment.attempt != second.assignment.attempt
    assert supervisor.handle(Tick(), 40.0) == []  # late again, but nobody is idle
    commit = one(supervisor.handle(ShardMade(copy.worker, receipt(1, 8, "copy")), 41.0), Commit)
    assert commit.receipt.attempt == "copy"
    late = supervisor.handle(ShardMade(second.worker, receipt(1, 8, "late")), 42.0)
    assert not any(isinstance(a, Commit) for a in late)
    supervisor.handle(ShardCommitted(receipt(0, 8)), 43.0)
    assert supervisor.handle(ShardCommitted(commit.receipt), 43.0) == [Finish(Outcome.FINISHED)]


def test_a_shard_has_three_attempts_at_most():
    supervisor = new(workers=5, target=40, counts_pairs=False, batch_size=8)
    *quick, slow = ready(supervisor, supervisor.begin(0.0))
    for assign in quick:
        shard = assign.assignment.shard
        supervisor.handle(ShardMade(assign.worker, receipt(shard, 8)), 10.0)
    shards = []
    for now in (12.0, 24.0, 36.0, 48.0):
        actions = supervisor.handle(Tick(), now)
        shards.append([a.assignment.shard for a in actions if isinstance(a, Assign)])
    assert shards == [[slow.assignment.shard], [slow.assignment.shard], [], []]


def test_a_straggler_is_known_by_its_speed_before_it_is_silent():
    _, _, actions = two_shards_one_late(10.0, batch_size=2)
    # No 2 of 8 in 10 s, when a whole shard takes 10.
    assert one(actions, Assign).assignment.shard == 1


def test_a_shard_that_comes_along_as_others_do_is_not_made_twice():
    supervisor, second, actions = two_shards_one_late(10.0, batch_size=8)
    assert actions == []
    assert supervisor.handle(BatchStarted(second.worker, 1, None, 8), 11.0) == []
    commit = one(supervisor.handle(ShardMade(second.worker, receipt(1, 8)), 11.5), Commit)
    assert commit.receipt.shard == 1


def one_waits_for_the_store():
    """Worker 1 keeps shard 2 since 8 s; worker 0 wrote its own at 10 s, and is idle."""
    supervisor = new(workers=2, target=24, counts_pairs=False)
    first, second = ready(supervisor, supervisor.begin(0.0))
    supervisor.handle(ShardMade(second.worker, receipt(1, 8)), 5.0)
    supervisor.handle(BatchStarted(second.worker, 2, None, 8), 6.0)
    supervisor.handle(ShardWaits(second.worker, 2, "disk full"), 8.0)
    supervisor.handle(ShardMade(first.worker, receipt(0, 8)), 10.0)
    return supervisor, second


def test_a_shard_that_is_made_and_waits_for_the_store_is_not_made_twice():
    supervisor, second = one_waits_for_the_store()
    assert supervisor.handle(Tick(), 50.0) == []
    assert supervisor.wake_at() == 108.0  # its deadline, and nothing before
    made = ShardMade(second.worker, receipt(2, 8, "kept"))
    assert one(supervisor.handle(made, 60.0), Commit).receipt.attempt == "kept"


def test_a_worker_that_can_not_write_while_others_can_is_a_straggler():
    supervisor, second = one_waits_for_the_store()
    copy = one(supervisor.handle(ShardWaits(second.worker, 2, "no route"), 50.0), Assign)
    assert copy.assignment.shard == 2
    assert copy.worker != second.worker


def test_a_worker_is_no_straggler_for_good_by_one_write_that_was_under_way():
    supervisor = new(workers=3, target=24, counts_pairs=False, patience_s=600.0)
    *two, late = supervisor.begin(0.0)
    first, second = ready(supervisor, two)
    supervisor.handle(BatchStarted(second.worker, 1, None, 8), 6.0)
    supervisor.handle(ShardWaits(second.worker, 1, "disk full"), 8.0)
    supervisor.handle(ShardMade(first.worker, receipt(0, 8)), 10.0)
    supervisor.handle(BatchStarted(first.worker, 2, None, 8), 40.0)
    for now in (50.0, 60.0):
        supervisor.handle(ShardWaits(first.worker, 2, "disk full"), now)
        supervisor.handle(ShardWaits(second.worker, 1, "disk full"), now)
    assert supervisor.handle(WorkerReady(late.worker), 61.0) == []
    assert supervisor.handle(Tick(), 90.0) == []


def test_a_worker_that_can_not_write_is_a_straggler_though_it_is_late_only_later():
    supervisor = new(workers=2, target=24, counts_pairs=False, patience_s=600.0)
    first, second = ready(supervisor, supervisor.begin(0.0))
    supervisor.handle(ShardMade(second.worker, receipt(1, 8)), 5.0)
    supervisor.handle(BatchStarted(second.worker, 2, None, 8), 6.0)
    supervisor.handle(ShardWaits(second.worker, 2, "no route"), 8.0)
    supervisor.handle(ShardMade(first.worker, receipt(0, 8)), 10.0)
    # 1.2 times the 7.5 s that a shard takes, from 5 s on.
    for now in (11.0, 12.0, 13.0):
        assert supervisor.handle(ShardWaits(second.worker, 2, "no route"), now) == []
    assert supervisor.wake_at() == 14.0
    assert one(supervisor.handle(Tick(), 14.0), Assign).assignment.shard == 2


def test_how_long_the_store_was_away_says_nothing_of_how_long_a_shard_takes():
    supervisor = new(workers=2, target=32, counts_pairs=False, batch_size=8)
    first, second = ready(supervisor, supervisor.begin(0.0))
    supervisor.handle(ShardMade(second.worker, receipt(1, 8)), 10.0)
    supervisor.handle(ShardWaits(first.worker, 0, "disk full"), 20.0)
    supervisor.handle(ShardWaits(second.worker, 2, "disk full"), 20.0)
    last = one(supervisor.handle(ShardMade(first.worker, receipt(0, 8)), 90.0), Assign)
    assert last.assignment.shard == 3
    supervisor.handle(ShardMade(second.worker, receipt(2, 8)), 91.0)
    assert supervisor.wake_at() == 102.0  # 1.2 times the 10 s that shard 1 took


def test_the_death_of_one_of_two_attempts_costs_the_shard_nothing():
    supervisor, second, actions = two_shards_one_late(15.0, max_attempts=1)
    copy = one(actions, Assign)
    assert supervisor.handle(WorkerDied(second.worker, "killed"), 16.0) == []
    actions = supervisor.handle(WorkerDied(copy.worker, "killed"), 17.0)
    (again,) = ready(supervisor, actions, 18.0)
    assert again.assignment.isolate  # one failure, though two workers died


def test_new_nodes_get_workers_and_lost_ones_are_not_waited_for():
    supervisor = new(workers=1, target=80, counts_pairs=False)
    (first,) = ready(supervisor, supervisor.begin(0.0))
    more = supervisor.handle(PlacesChanged(3), 1.0)
    assert len(more) == 2
    assert [a.assignment.shard for a in ready(supervisor, more, 2.0)] == [1, 2]
    assert supervisor.handle(PlacesChanged(2), 3.0) == []
    # Its place is gone with it: no other worker is started, and its shard goes to the next free.
    assert supervisor.handle(WorkerDied(first.worker, "lost", node_lost=True), 4.0) == []
    (busy, *_) = more
    following = supervisor.handle(BatchStarted(busy.worker, 1, None, 8), 5.0)
    assert one(following, Assign).assignment.shard == 0


def test_a_broken_place_that_goes_takes_no_good_one_with_it():
    supervisor = new(workers=2, target=100)
    broken, good = (a.worker for a in supervisor.begin(0.0))
    supervisor.handle(WorkerFailedToStart(broken, "sees another store"), 0.0)
    supervisor.handle(WorkerReady(good), 1.0)
    supervisor.handle(PlacesChanged(1), 2.0)
    assert one(supervisor.handle(WorkerDied(good, "silent"), 3.0), StartWorker)


def test_lost_nodes_are_not_held_against_a_shard():
    supervisor = new(workers=1, max_attempts=1)
    (assign,) = ready(supervisor, supervisor.begin(0.0))
    for now in range(1, 8):
        lost = WorkerDied(assign.worker, "lost", node_lost=True)
        (assign,) = ready(supervisor, supervisor.handle(lost, now), now)
        assert assign.assignment.shard == 0
        assert not assign.assignment.isolate


def test_a_cluster_without_nodes_is_waited_for_but_not_for_ever():
    supervisor = new(workers=0, patience_s=60.0)
    assert supervisor.begin(5.0) == []
    assert supervisor.wake_at() == 65.0
    assert one(supervisor.handle(PlacesChanged(1), 50.0), StartWorker)
    alone = new(workers=0, patience_s=60.0)
    alone.begin(5.0)
    finish = one(alone.handle(Tick(), 65.0), Finish)
    assert finish.outcome is Outcome.FAILED
    assert finish.reason.startswith("no node to work on for 60 s")


def test_what_is_left_to_make_can_be_asked_for_nodes_in_advance():
    supervisor = new(workers=1, target=24, counts_pairs=False)
    assert supervisor.shards_to_make(100) == 3
    assert supervisor.shards_to_make(2) == 2
    ready(supervisor, supervisor.begin(0.0))
    assert supervisor.shards_to_make(100) == 3
    supervisor.handle(ShardCommitted(receipt(1, 8)), 1.0)
    assert supervisor.shards_to_make(100) == 2
