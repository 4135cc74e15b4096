"""The laws of the supervisor, on simulated worlds: no Ray, no files, no clock."""

import random
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfsynth.runs.protocol import FailureKind
from mfsynth.runs.supervisor import (
    MAX_CULPRITS,
    Assign,
    BatchStarted,
    Commit,
    CommitFailed,
    Drain,
    Finish,
    KillWorker,
    Outcome,
    Policy,
    ShardCommitted,
    ShardFailed,
    ShardMade,
    StartWorker,
    Supervisor,
    Tick,
    WorkerDied,
    WorkerFailedToStart,
    WorkerReady,
)
from mfsynth.shards.records import Receipt

SHARD_SIZE = 8


def policy(**changes) -> Policy:
    values = {
        "target": 20,
        "counts_pairs": True,
        "shard_size": SHARD_SIZE,
        "workers": 3,
        "batch_size": 4,
        "deadline_s": 100.0,
        "max_attempts": 3,
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
    `toxic` candidates kill any worker that makes them. `store` outlives its drivers.
    """

    def __init__(
        self, rng, accepted, *, faults=0, toxic=(), birth=0.1, chance=0.1, patience=10_000
    ):
        self.rng = rng
        self.accepted = accepted
        self.faults = faults
        self.toxic = frozenset(toxic)
        self.birth, self.chance = birth, chance
        self.store: dict[int, Receipt] = {}
        self.now = 0.0
        self.steps = patience
        self.commits: list[Receipt] = []
        self.quarantined: dict[int, str] = {}
        self.assignments = []
        self.names = count()
        self.pending: list[Receipt] = []

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
        self.pending = []
        workers: dict[int, list] = {}  # worker → its remaining script of events
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
            ready = [number for number, script in workers.items() if script]
            if self.pending and (not ready or self.rng.random() < 0.5):
                todo = supervisor.handle(self.commit(self.pending.pop(0)), self.now)
            elif ready and self.rng.random() < 0.9:
                number = self.rng.choice(ready)
                event = workers[number].pop(0)
                if event is None:  # it hangs, and says nothing ever again
                    workers[number], todo = [], []
                    continue
                self.now += self.rng.random()
                if isinstance(event, WorkerDied):
                    del workers[number]
                todo = supervisor.handle(event, self.now)
            else:
                wake = supervisor.wake_at()
                assert wake is not None or ready, "nothing will ever happen again"
                if not ready or self.trouble(0.3):  # else nobody is so slow as to be silent
                    self.now = max(self.now, wake or 0.0)
                todo = supervisor.handle(Tick(), self.now)

    def carry_out(self, actions, workers) -> Finish | None:
        for action in actions:
            match action:
                case StartWorker(worker):
                    assert worker not in workers
                    if self.trouble(self.birth):
                        script = [WorkerDied(worker, "died at birth")]
                    elif self.trouble(self.birth):
                        script = [None]
                    else:
                        script = [WorkerReady(worker)]
                    workers[worker] = script
                case KillWorker(worker):
                    workers.pop(worker, None)
                case Assign(worker, assignment):
                    assert workers[worker] == []
                    self.assignments.append(assignment)
                    workers[worker] = self.script(worker, assignment)
                case Commit(receipt):
                    self.pending.append(receipt)
                case Finish():
                    self.pending = []
                    return action
        return None

    def script(self, worker, assignment):
        first = assignment.shard * SHARD_SIZE
        events = []
        done = 0
        todo = [c for c in range(first, first + SHARD_SIZE) if c not in assignment.quarantined]
        for at in range(0, len(todo), assignment.batch_size):
            batch = todo[at : at + assignment.batch_size]
            events.append(BatchStarted(worker, batch[0], done))
            if self.toxic & set(batch):
                return [*events, WorkerDied(worker, "toxic")]
            if self.trouble(self.chance):
                fault = self.rng.choice(["die", "hang", "oom", "store", "other"])
                return (
                    events
                    + {
                        "die": [WorkerDied(worker, "killed")],
                        "hang": [None],
                        "oom": [ShardFailed(worker, FailureKind.OUT_OF_MEMORY, "memory")],
                        "store": [ShardFailed(worker, FailureKind.ENVIRONMENT, "store")],
                        "other": [ShardFailed(worker, FailureKind.OTHER, "bug")],
                    }[fault]
                )
            done += len(batch)
        made = receipt(
            assignment.shard,
            min(self.accepted(assignment.shard), done),
            assignment.attempt,
            len(assignment.quarantined),
        )
        self.quarantined |= assignment.quarantined
        return [*events, BatchStarted(worker, None, done), ShardMade(worker, made)]

    def commit(self, receipt):
        """What the driver does: create if absent, then report what the store holds."""
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
PATIENT = {"max_attempts": 1000}


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
def test_a_target_changed_between_sittings_leaves_no_gap(seed, first, second, stop_after):
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
    toxic=st.sets(st.integers(0, 39), max_size=MAX_CULPRITS - 1),
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
)
def test_a_world_that_never_stops_failing_still_ends_with_a_reason(
    seed, workers, max_attempts, birth, chance
):
    gains = gains_of(seed)
    world = World(
        random.Random(seed), gains, faults=10**9, birth=birth, chance=chance, patience=5_000
    )
    finish = world.run(policy(workers=workers, target=40, max_attempts=max_attempts))
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
    assert supervisor.handle(BatchStarted(assign.worker, 0, 0), 9.0) == []
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
    oom = ShardFailed(assign.worker, FailureKind.OUT_OF_MEMORY, "memory")
    actions = supervisor.handle(oom, 1.0)
    assert not any(isinstance(a, KillWorker) for a in actions)
    assert one(actions, Assign).assignment.batch_size == 2


def test_out_of_memory_with_a_batch_of_one_is_a_failure_like_any_other():
    supervisor, assign = with_one_worker(batch_size=1)
    oom = ShardFailed(assign.worker, FailureKind.OUT_OF_MEMORY, "memory")
    assert one(supervisor.handle(oom, 1.0), KillWorker).worker == assign.worker


def test_a_store_error_waits_and_then_ends_the_run_with_its_own_words():
    supervisor, assign = with_one_worker(max_attempts=2, target=16, counts_pairs=False)
    error = ShardFailed(assign.worker, FailureKind.ENVIRONMENT, "disk full")
    # The other shard of the target may go on; the failed one waits.
    actions = supervisor.handle(error, 1.0)
    assert all(a.assignment.shard != 0 for a in actions if isinstance(a, Assign))
    other = one(actions, Assign)
    supervisor.handle(ShardMade(other.worker, receipt(other.assignment.shard, 8)), 1.1)
    retry = one(supervisor.handle(Tick(), 100.0), Assign)
    assert retry.assignment.shard == 0
    finish = one(supervisor.handle(error, 101.0), Finish)
    assert finish == Finish(Outcome.FAILED, "disk full")


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
