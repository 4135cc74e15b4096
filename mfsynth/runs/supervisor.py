"""Which worker does what next: a state machine over events, with no Ray, no clock and no IO.

The life of a shard::

    free ──assign──► in work ──made──► held ──certain──► committing ──► committed
      ▲                 │                │
      └──── failed ─────┘                └── beyond the prefix: dropped, its objects are garbage

**What a run consists of.** Let ``gain(k)`` be what shard k adds to the target (its accepted
pairs; or all of its candidates, where the target counts candidates). The data set is the shortest
prefix of shards 0, 1, 2, … whose gains reach the target. Workers run ahead of the prefix, so a
shard that is made is *held* until it is certain to be in it: until the gains of all lower shards,
with unfinished ones counted at their most, still fall short of the target. The set of committed
shards therefore depends on the configuration alone, not on the number of workers, on the order in
which they finish, or on where the run was killed, and it has no gaps.

**Failures.** An attempt that dies, fails or goes silent is tried again by a fresh worker. After
`Policy.max_attempts` such ends the shard is made candidate by candidate; a candidate that ends
`STRIKES` attempts of that kind is quarantined with its reason, and only that one. Out of memory
halves the batch. A failing environment (a full disk, a store out of reach) is given time, with
jitter.

**It always ends.** Every worker that owes an answer has a deadline, every wait has an end, and
each kind of failure has a limit after which the run stops and says why.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count

from mfsynth.runs.protocol import Assignment, FailureKind
from mfsynth.shards.records import Receipt

# One death may be the machine's fault; a candidate that ends two attempts while it is alone in
# its worker is taken at its word.
STRIKES = 2
# Single prompts can be bad. When so many of one shard are, the model or the machine is, and to
# quarantine on would empty the data set.
MAX_CULPRITS = 4
# At an acceptance of 2 % the chance to see no pair among so many candidates is below 1e-4.
MAX_CANDIDATES_WITHOUT_A_PAIR = 512
MAX_BACKOFF_S = 60.0


# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker has loaded its model."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerFailedToStart:
    """The worker is alive and says why it can't work; it would say so again."""

    worker: int
    message: str


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker's process is gone, whatever it was doing."""

    worker: int
    message: str


@dataclass(frozen=True, slots=True)
class BatchStarted:
    """A sign of life: `done` candidates are made, the batch that begins at `candidate` is next."""

    worker: int
    candidate: int | None
    done: int


@dataclass(frozen=True, slots=True)
class ShardMade:
    """The objects are in the store; nobody may read them yet."""

    worker: int
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class ShardFailed:
    """The attempt is over, the worker lives."""

    worker: int
    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class ShardCommitted:
    """The store holds this receipt as the shard's commit, whoever made it."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """The store did not say whether the commit exists; committing again is safe."""

    shard: int
    message: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Take on nothing new, finish what is in work, then end."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, nothing else."""


Event = (
    WorkerReady
    | WorkerFailedToStart
    | WorkerDied
    | BatchStarted
    | ShardMade
    | ShardFailed
    | ShardCommitted
    | CommitFailed
    | Drain
    | Tick
)


# --- actions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker under a number that was never used; answered by ready or failed to start."""

    worker: int


@dataclass(frozen=True, slots=True)
class KillWorker:
    """End the worker without waiting; whatever it still says is not listened to."""

    worker: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Give the worker a shard; answered by batches, then made, failed or died."""

    worker: int
    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Commit:
    """Create the shard's commit if it is absent; answered by committed or failed."""

    receipt: Receipt


class Outcome(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    DRAINED = "drained"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over: end all workers. `reason` is one line, empty for a finished run."""

    outcome: Outcome
    reason: str = ""


Action = StartWorker | KillWorker | Assign | Commit | Finish


# --- state ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """What a supervisor aims at and how patient it is.

    Attributes:
        target: What the gains of the committed shards must reach.
        counts_pairs: A shard's gain is its accepted pairs; otherwise all of its candidates.
        shard_size: Candidates a shard, the most that a shard can gain.
        workers: Workers alive at a time, at most.
        batch_size: Candidates made together, until memory runs out.
        deadline_s: Seconds that a worker may be silent while it starts or between two batches.
        max_attempts: Ends of a shard before it is made candidate by candidate; failures of the
            environment before the run stops.
    """

    target: int
    counts_pairs: bool
    shard_size: int
    workers: int
    batch_size: int
    deadline_s: float
    max_attempts: int

    def gain(self, receipt: Receipt) -> int:
        """What the shard adds to the target."""
        return receipt.accepted if self.counts_pairs else self.shard_size


@dataclass(slots=True)
class _Shard:
    """A shard that is not committed: its troubles so far, and its receipt once it is made."""

    failures: int = 0
    environment_failures: int = 0
    commit_failures: int = 0
    not_before: float = 0.0
    strikes: dict[int, int] = field(default_factory=dict)
    quarantined: dict[int, str] = field(default_factory=dict)
    receipt: Receipt | None = None
    committing: bool = False


class _State(StrEnum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"


@dataclass(slots=True)
class _Worker:
    state: _State
    deadline: float
    shard: int = -1
    batch_size: int = 0
    isolated: bool = False
    candidate: int | None = None
    done: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """What a person wants to know of a supervisor.

    Attributes:
        gained: Progress towards the target, committed and held shards together.
        in_work: Candidates made so far in shards that are in work.
        workers: Workers that are ready.
        starting: Workers that load their model.
    """

    gained: int
    in_work: int
    workers: int
    starting: int


class Supervisor:
    """Decides; the driver does.

    Call `begin` once, then `handle` with every event, and carry out the actions that come back,
    in order. Call with `Tick` no later than `wake_at`. After a `Finish`, events change nothing.

    Args:
        policy: What to aim at.
        committed: Receipts that the store holds already, by shard.
        new_attempt: Gives an attempt token that no other driver can give.
        rng: Jitter of the waits.
    """

    def __init__(
        self,
        policy: Policy,
        committed: Iterable[Receipt],
        new_attempt: Callable[[], str],
        rng: random.Random,
    ) -> None:
        self._policy = policy
        self._new_attempt = new_attempt
        self._rng = rng
        self._gains: dict[int, int] = {}
        self._prefix = 0  # shards below this one are committed …
        self._prefix_gain = 0  # … and add this much
        self._top = 0  # no shard from here on is committed
        self._accepted = 0
        self._candidates = 0
        self._gained = 0
        self._barren = 0
        self._shards: dict[int, _Shard] = {}
        self._workers: dict[int, _Worker] = {}
        self._numbers = count()
        self._slots = policy.workers
        self._any_ready = False
        self._start_failures = 0
        self._start_not_before = 0.0
        self._start_message = ""
        self._batch_size = policy.batch_size
        self._draining = False
        self._now = 0.0
        self._finish: Finish | None = None
        for receipt in committed:
            self._note_commit(receipt)
        self._barren = 0  # a new sitting is a new chance

    @property
    def finished(self) -> bool:
        """Whether `Finish` was given."""
        return self._finish is not None

    def begin(self, now: float) -> list[Action]:
        """The first actions."""
        return self.handle(Tick(), now)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take an event in, give back what is to be done.

        Args:
            event: What happened. Events of workers that were killed or are unknown are ignored.
            now: Seconds of any clock that never goes back.
        """
        if self.finished:
            return []
        self._now = now
        actions: list[Action] = []
        match event:
            case WorkerReady(worker):
                self._ready(worker)
            case WorkerFailedToStart(worker, message):
                actions += self._failed_to_start(worker, message)
            case WorkerDied(worker, message):
                self._died(worker, message)
            case BatchStarted():
                self._batch_started(event)
            case ShardMade(worker, receipt):
                self._made(worker, receipt)
            case ShardFailed():
                actions += self._failed(event)
            case ShardCommitted(receipt):
                self._note_commit(receipt)
            case CommitFailed(shard, message):
                self._commit_failed(shard, message)
            case Drain():
                self._draining = True
            case Tick():
                pass
        actions += self._enforce_deadlines()
        return actions + self._next_actions()

    def wake_at(self) -> float | None:
        """When a `Tick` is due at the latest; None if only an event can change anything."""
        times = [w.deadline for w in self._workers.values() if w.state is not _State.IDLE]
        times += [shard.not_before for shard in self._shards.values()]
        times.append(self._start_not_before)
        # What is already possible was done, or waits for an event and not for time.
        return min((time for time in times if time > self._now), default=None)

    def view(self) -> View:
        """Where things stand."""
        states = [worker.state for worker in self._workers.values()]
        receipts = [shard.receipt for shard in self._shards.values() if shard.receipt]
        return View(
            gained=self._gained + sum(map(self._policy.gain, receipts)),
            in_work=sum(worker.done for worker in self._workers.values()),
            workers=len(states) - states.count(_State.STARTING),
            starting=states.count(_State.STARTING),
        )

    # --- events ---

    def _ready(self, number: int) -> None:
        worker = self._workers.get(number)
        if worker is not None and worker.state is _State.STARTING:
            worker.state = _State.IDLE
            self._any_ready = True
            self._start_failures = 0

    def _failed_to_start(self, number: int, message: str) -> list[Action]:
        worker = self._workers.pop(number, None)
        if worker is None:
            return []
        if self._any_ready:
            self._start_not_before = self._now + self._backoff(self._start_failures + 1)
        else:
            # Its place never worked and would fail again.
            self._slots -= 1
        self._not_started(message)
        return [KillWorker(number)]

    def _not_started(self, message: str) -> None:
        self._start_failures += 1
        self._start_message = message

    def _may_start(self) -> bool:
        """Whether a new worker has a chance: some worker works, or not too many failed."""
        if any(worker.state is not _State.STARTING for worker in self._workers.values()):
            return True
        return self._slots > 0 and self._start_failures < self._policy.max_attempts

    def _died(self, number: int, message: str) -> None:
        worker = self._workers.pop(number, None)
        if worker is None:
            return
        if worker.state is _State.STARTING:
            self._start_not_before = self._now + self._backoff(self._start_failures + 1)
            self._not_started(message)
        elif worker.state is _State.BUSY:
            self._blame(worker, message)

    def _busy(self, number: int) -> _Worker | None:
        worker = self._workers.get(number)
        return worker if worker is not None and worker.state is _State.BUSY else None

    def _batch_started(self, event: BatchStarted) -> None:
        if (worker := self._busy(event.worker)) is not None:
            worker.candidate, worker.done = event.candidate, event.done
            worker.deadline = self._now + self._policy.deadline_s

    def _made(self, number: int, receipt: Receipt) -> None:
        worker = self._busy(number)
        if worker is None or worker.shard != receipt.shard:
            return
        worker.state, worker.done = _State.IDLE, 0
        # Another driver may have committed the shard meanwhile: then this receipt is garbage.
        if (shard := self._shards.get(receipt.shard)) is not None:
            shard.receipt = receipt

    def _failed(self, event: ShardFailed) -> list[Action]:
        if (worker := self._busy(event.worker)) is None:
            return []
        shard = self._shards.get(worker.shard)
        too_large = event.kind is FailureKind.OUT_OF_MEMORY and worker.batch_size > 1
        if not too_large and event.kind is not FailureKind.ENVIRONMENT:
            # An error can leave a device's context broken for good: only a fresh process is
            # known to be clean.
            del self._workers[event.worker]
            self._blame(worker, event.message)
            return [KillWorker(event.worker)]
        worker.state, worker.done = _State.IDLE, 0
        if too_large:
            self._batch_size = min(self._batch_size, worker.batch_size // 2)
        elif shard is not None:
            shard.environment_failures += 1
            shard.not_before = self._now + self._backoff(shard.environment_failures)
            if shard.environment_failures >= self._policy.max_attempts:
                self._stop(event.message)
        return []

    def _blame(self, worker: _Worker, message: str) -> None:
        """Book the end of an attempt against its shard or, where it is known, its candidate."""
        if (shard := self._shards.get(worker.shard)) is None:
            return
        if worker.isolated and worker.candidate is not None:
            shard.strikes[worker.candidate] = shard.strikes.get(worker.candidate, 0) + 1
            if shard.strikes[worker.candidate] >= STRIKES:
                shard.quarantined[worker.candidate] = message
            if len(shard.quarantined) >= MAX_CULPRITS:
                self._stop(
                    f"{MAX_CULPRITS} candidates of shard {worker.shard} failed one by one, the "
                    f"last one ({worker.candidate}) with: {message}"
                )
        else:
            shard.failures += 1
            if shard.failures >= 2 * self._policy.max_attempts:
                self._stop(f"shard {worker.shard} fails with no candidate to blame: {message}")

    def _note_commit(self, receipt: Receipt) -> None:
        if receipt.shard in self._gains:
            return
        self._shards.pop(receipt.shard, None)
        self._gains[receipt.shard] = self._policy.gain(receipt)
        self._gained += self._policy.gain(receipt)
        self._top = max(self._top, receipt.shard + 1)
        self._accepted += receipt.accepted
        self._candidates += receipt.candidates
        self._barren = 0 if receipt.accepted else self._barren + receipt.candidates
        while self._prefix in self._gains:
            self._prefix_gain += self._gains[self._prefix]
            self._prefix += 1

    def _commit_failed(self, number: int, message: str) -> None:
        if (shard := self._shards.get(number)) is None:
            return
        shard.committing = False
        shard.commit_failures += 1
        shard.not_before = self._now + self._backoff(shard.commit_failures)
        if shard.commit_failures >= self._policy.max_attempts:
            self._stop(message)

    def _enforce_deadlines(self) -> list[Action]:
        late = [
            number
            for number, worker in self._workers.items()
            if worker.state is not _State.IDLE and worker.deadline <= self._now
        ]
        for number in late:
            self._died(number, f"silent for {self._policy.deadline_s:g} s (runtime.deadline_s)")
        return [KillWorker(number) for number in late]

    # --- decisions ---

    def _next_actions(self) -> list[Action]:
        actions = [] if self.finished else self._commit_what_is_certain()
        self._decide_the_end()
        if self._finish is not None:
            return [*actions, self._finish]
        if not self._draining:
            actions += self._give_out_work()
        return actions

    def _held_and_certain(self) -> Iterator[_Shard]:
        """Made shards, not committed, that belong to the prefix whatever the lower ones gain."""
        most = self._prefix_gain
        for number in range(self._prefix, max(self._top, 1 + max(self._shards, default=-1))):
            # A gap below a commit is filled whatever the target: finished runs have no gaps.
            if most >= self._policy.target and number >= self._top:
                return
            shard = self._shards.get(number)
            if number in self._gains:
                most += self._gains[number]
            elif shard is not None and shard.receipt is not None:
                most += self._policy.gain(shard.receipt)
                yield shard
            else:
                most += self._policy.shard_size

    def _commit_what_is_certain(self) -> list[Action]:
        actions: list[Action] = []
        for shard in self._held_and_certain():
            if not shard.committing and shard.not_before <= self._now and shard.receipt:
                shard.committing = True
                actions.append(Commit(shard.receipt))
        return actions

    def _decide_the_end(self) -> None:
        if self._finish is not None:
            return
        if self._prefix_gain >= self._policy.target and self._prefix >= self._top:
            self._finish = Finish(Outcome.FINISHED)
        elif self._policy.counts_pairs and self._barren >= MAX_CANDIDATES_WITHOUT_A_PAIR:
            self._stop(
                f"none of the last {self._barren} candidates was accepted: see the reasons with "
                "`mfsynth report`, then mend the prompts or the checks"
            )
        elif next(self._held_and_certain(), None) is not None:
            pass  # what is whole is committed first
        elif self._draining and not self._shards_in_work():
            self._finish = Finish(Outcome.DRAINED, "stopped on request")
        elif not self._workers and not self._may_start():
            self._stop(f"no worker could start: {self._start_message}")

    def _give_out_work(self) -> list[Action]:
        actions: list[Action] = []
        idle = [n for n, worker in self._workers.items() if worker.state is _State.IDLE]
        starting = len(self._workers) - len(idle) - len(self._shards_in_work())
        may_start = self._start_not_before <= self._now and self._may_start()
        for number in self._wanted():
            if idle:
                actions.append(self._assign(idle.pop(0), number))
            elif starting:
                starting -= 1
            elif len(self._workers) < self._slots and may_start:
                worker = next(self._numbers)
                deadline = self._now + self._policy.deadline_s
                self._workers[worker] = _Worker(_State.STARTING, deadline)
                actions.append(StartWorker(worker))
            else:
                break
        return actions

    def _shards_in_work(self) -> set[int]:
        return {w.shard for w in self._workers.values() if w.state is _State.BUSY}

    def _wanted(self) -> Iterator[int]:
        """Shards to be made now, lowest first: as many as the target is expected to need.

        Unfinished shards count at the acceptance seen so far, so that workers neither wait for
        the last shard's result nor make many shards that the prefix will not need.
        """
        rate = (self._accepted + 1) / (self._candidates + 2) if self._policy.counts_pairs else 1.0
        in_work = self._shards_in_work()
        expected = float(self._prefix_gain)
        for number in count(self._prefix):
            if expected >= self._policy.target and number >= self._top:
                return
            shard = self._shards.get(number)
            if number in self._gains:
                expected += self._gains[number]
            elif shard is not None and shard.receipt is not None:
                expected += self._policy.gain(shard.receipt)
            else:
                expected += rate * self._policy.shard_size
                if number not in in_work and (shard is None or shard.not_before <= self._now):
                    yield number

    def _assign(self, worker_number: int, number: int) -> Assign:
        shard = self._shards.setdefault(number, _Shard())
        isolate = shard.failures >= self._policy.max_attempts
        batch_size = 1 if isolate else self._batch_size
        self._workers[worker_number] = _Worker(
            _State.BUSY, self._now + self._policy.deadline_s, number, batch_size, isolate
        )
        attempt = self._new_attempt()
        return Assign(
            worker_number,
            Assignment(number, attempt, batch_size, isolate, dict(shard.quarantined)),
        )

    def _backoff(self, failures: int) -> float:
        return min(MAX_BACKOFF_S, 2.0**failures) * self._rng.uniform(0.5, 1.0)

    def _stop(self, reason: str) -> None:
        if self._finish is None:
            self._finish = Finish(Outcome.FAILED, reason)
