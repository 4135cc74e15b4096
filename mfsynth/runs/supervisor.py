"""Which worker does what next: a state machine over events, with no Ray, no clock and no IO.

The life of a shard::

    free ──assign──► in work ──made──► held ──certain──► committing ──► committed
      ▲                 │                │
      └──── failed ─────┘                └── beyond the prefix: dropped, its objects are garbage

**What a run consists of.** Let `gain(k)` be what shard k adds to the target (its accepted
pairs; or all of its candidates, where the target counts candidates). The data set is the shortest
prefix of shards 0, 1, 2, … whose gains reach the target. Workers run ahead of the prefix, so a
shard that is made is *held* until it is certain to be in it: until the gains of all lower shards,
with unfinished ones counted at their most, still fall short of the target. The set of committed
shards therefore depends on the configuration alone, not on the number of workers, on the order in
which they finish, or on where the run was killed, and it has no gaps.

**Workers are never idle while there is work.** A worker that has made all candidates of a shard
and only has to write and upload it takes the next shard already. Near the end, when workers are
left without a shard, a shard that is late (`STRAGGLER_FACTOR`) is given to another one as well:
whichever attempt is made first counts, the other's objects are garbage. Places for workers may come
and go with the nodes of a cluster.

**Failures.** An attempt that dies, fails or goes silent is tried again by a fresh worker. After
`Policy.max_attempts` such ends the shard is made candidate by candidate; a candidate that ends
`MAX_CANDIDATE_FAILURES` attempts of that kind is quarantined with its reason, and only that one.
Out of memory halves the batch. A failing environment (a full disk, a store out of reach) is given
time, with jitter. A worker that goes down with its node is nobody's fault, up to `MAX_NODE_LOSSES`
nodes a shard.

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
from mfsynth.runs.timers import Timers
from mfsynth.shards.records import Receipt

# One death may be the machine's fault; a candidate that ends two attempts while it is alone in
# its worker is taken at its word.
MAX_CANDIDATE_FAILURES = 2
# Single prompts can be bad. When so many of one shard are, the model or the machine is, and to
# quarantine on would empty the data set.
MAX_QUARANTINED_PER_SHARD = 4
# At an acceptance of 2 % the chance to see no pair among so many candidates is below 1e-4.
MAX_CANDIDATES_WITHOUT_A_PAIR = 512
MAX_BACKOFF_S = 60.0
# Spot nodes come and go: at a chance of 15 % to lose one during a shard, ten in a row are one
# shard in 10^8. Beyond that the shard is taken to be what kills them.
MAX_NODE_LOSSES = 10
# An attempt is late when it takes this many times as long as attempts do on average. Second ones
# are made by workers that have nothing else to do, so that one too many costs next to nothing.
STRAGGLER_FACTOR = 1.2
# A second attempt may fall to a straggler too.
ATTEMPTS_AT_ONCE = 3


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
    """The worker's process is gone, whatever it was doing; `node_lost`: with its whole node."""

    worker: int
    message: str
    node_lost: bool = False


@dataclass(frozen=True, slots=True)
class BatchStarted:
    """A sign of life: `done` candidates are made, the batch that begins at `candidate` is next.

    `candidate` is None once all are made: what is left is to write and upload the shard.
    """

    worker: int
    shard: int
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
    shard: int
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
class PlacesChanged:
    """Nodes came or went: there is room for this many workers now."""

    places: int


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
    | PlacesChanged
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
    """End the worker without waiting; whatever it still says is not listened to.

    `reason` is one line where nobody but the supervisor knows it: the worker's silence.
    """

    worker: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Assign:
    """Give the worker a shard; answered by batches, then made, failed or died.

    It may still be writing another one.
    """

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
        workers: Places for workers, to begin with.
        batch_size: Candidates made together, until memory runs out.
        deadline_s: Seconds that a worker may be silent while it starts or between two batches, and
            that a run waits for a node when it has none.
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
    """A shard that is not committed: who is at it, and its troubles so far."""

    attempts: int = 0
    failures: int = 0
    losses: int = 0
    environment_failures: int = 0
    commit_failures: int = 0
    not_before: float = 0.0
    strikes: dict[int, int] = field(default_factory=dict)
    quarantined: dict[int, str] = field(default_factory=dict)
    committing: bool = False


@dataclass(slots=True)
class _Attempt:
    """What a worker does about a shard."""

    batch_size: int
    isolated: bool
    began: float
    candidate: int | None = None
    done: int = 0
    writing: bool = False


@dataclass(slots=True)
class _Worker:
    """A worker, and its attempts by shard: one that is made, and one that is written."""

    since: float  # when it was started, then when it was last left without a shard
    ready: bool = False
    attempts: dict[int, _Attempt] = field(default_factory=dict)

    def view(self, number: int, now: float) -> WorkerView:
        """What it does; of two shards, the one that it makes and not the one that it writes."""
        if not self.attempts:
            state = WorkerState.IDLE if self.ready else WorkerState.STARTING
            return WorkerView(number, state, now - self.since)
        shard, attempt = min(self.attempts.items(), key=lambda item: item[1].writing)
        state = WorkerState.WRITING if attempt.writing else WorkerState.MAKING
        return WorkerView(number, state, now - attempt.began, shard, attempt.done)

    def may_take_another(self) -> bool:
        """Whether it has nothing to make; an isolated attempt is alone to the very end."""
        return self.ready and (
            not self.attempts
            or (
                len(self.attempts) == 1
                and all(a.writing and not a.isolated for a in self.attempts.values())
            )
        )


class WorkerState(StrEnum):
    """What a worker does; `WRITING` is all that comes after a shard's last candidate."""

    STARTING = "starting"
    IDLE = "idle"
    MAKING = "making"
    WRITING = "writing"


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What a person wants to know of a worker.

    Attributes:
        worker: Its number.
        state: What it does.
        seconds: For how long: since it was started or left without a shard, or was given it.
        shard: The one it is at, or None.
        made: Candidates of that shard made so far.
    """

    worker: int
    state: WorkerState
    seconds: float
    shard: int | None = None
    made: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """What a person wants to know of a supervisor.

    Attributes:
        gained: Progress towards the target, committed and held shards together.
        in_work: Candidates made so far in shards that are in work.
        workers: All that are alive, in the order of their numbers.
    """

    gained: int
    in_work: int
    workers: tuple[WorkerView, ...] = ()


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
        # Every shard below the frontier is either committed, and then in `_gains`, or in
        # `_shards`; of those, the made ones are in `_held` and the ones nobody is at in
        # `_unassigned`.
        self._frontier = 0
        self._gains: dict[int, int] = {}
        self._shards: dict[int, _Shard] = {}
        self._held: dict[int, Receipt] = {}
        self._unassigned: set[int] = set()
        self._prefix = 0  # shards below this one are committed …
        self._prefix_gain = 0  # … and add this much
        self._top = 0  # no shard from here on is committed
        self._gained = 0
        self._held_gain = 0
        self._accepted = 0
        self._candidates = 0
        self._candidates_since_last_pair = 0
        self._shards_timed = 0
        self._seconds = 0.0
        self._workers: dict[int, _Worker] = {}
        # Workers by what they can be given: nothing yet, anything, a shard to make while they
        # write one. A dictionary is a set that remembers its order.
        self._starting: dict[int, None] = {}
        self._idle: dict[int, None] = {}
        self._writing: dict[int, None] = {}
        self._numbers = count()
        self._places = policy.workers
        self._slots = policy.workers
        self._no_place_since: float | None = None
        self._any_ready = False
        self._start_failures = 0
        self._start_not_before = 0.0
        self._start_message = ""
        self._batch_size = policy.batch_size
        self._draining = False
        self._now = 0.0
        self._finish: Finish | None = None
        # Deadlines of attempts, and of starts with no shard in the key; and ends of waits.
        self._deadlines: Timers[tuple[int, int | None]] = Timers()
        self._waits: Timers[int | None] = Timers()
        for receipt in committed:
            self._note_commit(receipt)
        self._candidates_since_last_pair = 0  # a new session is a new chance

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
            case WorkerDied(worker, message, node_lost):
                self._died(worker, message, node_lost=node_lost)
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
            case PlacesChanged(places):
                self._change_places(places)
            case Drain():
                self._draining = True
            case Tick():
                pass
        actions += self._enforce_deadlines()
        return actions + self._next_actions()

    def wake_at(self) -> float | None:
        """When a `Tick` is due at the latest; None if only an event can change anything."""
        for _ in self._waits.due(self._now):
            pass  # what is already possible was done, or waits for an event and not for time
        times = [self._deadlines.earliest(), self._waits.earliest()]
        if self._no_place_since is not None:
            times.append(self._no_place_since + self._policy.deadline_s)
        if self._idle and self._shards_timed:
            times += self._stragglers().values()
        return min((t for t in times if t is not None and t > self._now), default=None)

    def view(self) -> View:
        """Where things stand."""
        in_work: dict[int, int] = {}
        for worker in self._workers.values():
            for number, attempt in worker.attempts.items():
                if number in self._shards and number not in self._held:
                    in_work[number] = max(in_work.get(number, 0), attempt.done)
        return View(
            gained=self._gained + self._held_gain,
            in_work=sum(in_work.values()),
            workers=tuple(w.view(number, self._now) for number, w in self._workers.items()),
        )

    def shards_to_make(self, at_most: int) -> int:
        """How many shards the target is expected to need yet, those in work included."""
        in_work = len(self._shards) - len(self._held) - len(self._unassigned)
        wanted = 0 if self.finished or self._draining else sum(1 for _ in self._wanted(at_most))
        return min(at_most, in_work + wanted)

    # --- events ---

    def _ready(self, number: int) -> None:
        worker = self._workers.get(number)
        if worker is not None and not worker.ready:
            worker.ready, worker.since = True, self._now
            self._deadlines.cancel((number, None))
            self._index_worker(number)
            self._any_ready = True
            self._start_failures = 0

    def _index_worker(self, number: int) -> None:
        """Put a worker where `_give_out_work` looks for it."""
        for file in (self._starting, self._idle, self._writing):
            file.pop(number, None)
        if (worker := self._workers.get(number)) is None:
            return
        if not worker.ready:
            self._starting[number] = None
        elif not worker.attempts:
            self._idle[number] = None
        elif worker.may_take_another():
            self._writing[number] = None

    def _remove(self, number: int) -> _Worker | None:
        """Forget a worker; its attempts are over."""
        if (worker := self._workers.pop(number, None)) is None:
            return None
        self._deadlines.cancel((number, None))
        self._index_worker(number)
        for shard in worker.attempts:
            self._deadlines.cancel((number, shard))
            self._release(shard)
        return worker

    def _release(self, number: int) -> None:
        if (shard := self._shards.get(number)) is not None:
            shard.attempts -= 1
            if not shard.attempts and number not in self._held:
                self._unassigned.add(number)

    def _end_attempt(self, number: int, shard: int) -> _Attempt | None:
        worker = self._workers.get(number)
        if worker is None or shard not in worker.attempts:
            return None
        attempt = worker.attempts.pop(shard)
        worker.since = self._now
        self._deadlines.cancel((number, shard))
        self._release(shard)
        self._index_worker(number)
        return attempt

    def _failed_to_start(self, number: int, message: str) -> list[Action]:
        if self._remove(number) is None:
            return []
        if self._any_ready:
            self._wait_to_start()
        else:
            # Its place never worked and would fail again.
            self._slots -= 1
        self._not_started(message)
        return [KillWorker(number)]

    def _not_started(self, message: str) -> None:
        self._start_failures += 1
        self._start_message = message

    def _wait_to_start(self) -> None:
        self._start_not_before = self._now + self._backoff(self._start_failures + 1)
        self._waits.set(None, self._start_not_before)

    def _may_start(self) -> bool:
        """Whether a new worker has a chance: some worker works, or not too many failed."""
        if len(self._workers) > len(self._starting):
            return True
        return self._slots > 0 and self._start_failures < self._policy.max_attempts

    def _change_places(self, places: int) -> None:
        if places > self._places:
            self._start_failures = 0  # a new place is a new chance
        self._slots += places - self._places
        self._places = places

    def _died(self, number: int, message: str, *, node_lost: bool = False) -> None:
        worker = self._remove(number)
        if worker is None:
            return
        if not worker.ready:
            self._wait_to_start()
            self._not_started(message)
        for shard, attempt in worker.attempts.items():
            # Which of the two it was can't be told; one that is innocent soon runs alone.
            self._blame(shard, attempt, message, node_lost=node_lost)

    def _batch_started(self, event: BatchStarted) -> None:
        worker = self._workers.get(event.worker)
        attempt = worker.attempts.get(event.shard) if worker is not None else None
        if attempt is not None:
            attempt.candidate, attempt.done = event.candidate, event.done
            attempt.writing = event.candidate is None
            self._set_deadline(event.worker, event.shard)
            if attempt.writing:
                self._index_worker(event.worker)

    def _set_deadline(self, worker: int, shard: int | None) -> None:
        self._deadlines.set((worker, shard), self._now + self._policy.deadline_s)

    def _made(self, number: int, receipt: Receipt) -> None:
        attempt = self._end_attempt(number, receipt.shard)
        if attempt is None:
            return
        self._shards_timed += 1
        self._seconds += self._now - attempt.began
        # Another attempt, or another driver, may have been faster: then this receipt is garbage.
        if receipt.shard in self._shards and receipt.shard not in self._held:
            self._unassigned.discard(receipt.shard)
            self._held[receipt.shard] = receipt
            self._held_gain += self._policy.gain(receipt)

    def _failed(self, event: ShardFailed) -> list[Action]:
        if (attempt := self._end_attempt(event.worker, event.shard)) is None:
            return []
        too_large = event.kind is FailureKind.OUT_OF_MEMORY and attempt.batch_size > 1
        if not too_large and event.kind is not FailureKind.ENVIRONMENT:
            # An error can leave a device's context broken for good: only a fresh process is
            # known to be clean.
            self._remove(event.worker)
            self._blame(event.shard, attempt, event.message)
            return [KillWorker(event.worker)]
        shard = self._shards.get(event.shard)
        if too_large:
            self._batch_size = min(self._batch_size, attempt.batch_size // 2)
        elif shard is not None and event.shard not in self._held:
            shard.environment_failures += 1
            self._wait(event.shard, shard.environment_failures)
            if shard.environment_failures >= self._policy.max_attempts:
                self._stop(event.message)
        return []

    def _wait(self, number: int, failures: int) -> None:
        self._shards[number].not_before = self._now + self._backoff(failures)
        self._waits.set(number, self._shards[number].not_before)

    def _blame(
        self, number: int, attempt: _Attempt, message: str, *, node_lost: bool = False
    ) -> None:
        """Book the end of an attempt against its shard or, where it is known, its candidate."""
        shard = self._shards.get(number)
        if shard is None or number in self._held or shard.attempts:
            return  # another attempt has made it, or may yet
        if node_lost and shard.losses < MAX_NODE_LOSSES:
            shard.losses += 1
        elif attempt.isolated and attempt.candidate is not None:
            shard.strikes[attempt.candidate] = shard.strikes.get(attempt.candidate, 0) + 1
            if shard.strikes[attempt.candidate] >= MAX_CANDIDATE_FAILURES:
                shard.quarantined[attempt.candidate] = message
            if len(shard.quarantined) >= MAX_QUARANTINED_PER_SHARD:
                self._stop(
                    f"{MAX_QUARANTINED_PER_SHARD} candidates of shard {number} failed one by one, "
                    f"the last one ({attempt.candidate}) with: {message}"
                )
        else:
            shard.failures += 1
            if shard.failures >= 2 * self._policy.max_attempts:
                self._stop(f"shard {number} fails with no candidate to blame: {message}")

    def _note_commit(self, receipt: Receipt) -> None:
        number = receipt.shard
        if number in self._gains:
            return
        self._open_shards_to(number + 1)
        del self._shards[number]
        self._unassigned.discard(number)
        if (held := self._held.pop(number, None)) is not None:
            self._held_gain -= self._policy.gain(held)
        self._gains[number] = self._policy.gain(receipt)
        self._gained += self._policy.gain(receipt)
        self._top = max(self._top, number + 1)
        self._accepted += receipt.accepted
        self._candidates += receipt.candidates
        self._candidates_since_last_pair = (
            0 if receipt.accepted else self._candidates_since_last_pair + receipt.candidates
        )
        while self._prefix in self._gains:
            self._prefix_gain += self._gains[self._prefix]
            self._prefix += 1

    def _open_shards_to(self, frontier: int) -> None:
        for number in range(self._frontier, frontier):
            self._shards[number] = _Shard()
            self._unassigned.add(number)
        self._frontier = max(self._frontier, frontier)

    def _commit_failed(self, number: int, message: str) -> None:
        if (shard := self._shards.get(number)) is None:
            return
        shard.committing = False
        shard.commit_failures += 1
        self._wait(number, shard.commit_failures)
        if shard.commit_failures >= self._policy.max_attempts:
            self._stop(message)

    def _enforce_deadlines(self) -> list[Action]:
        actions: list[Action] = []
        for number, _ in self._deadlines.due(self._now):
            reason = f"silent for {self._policy.deadline_s:g} s (runtime.deadline_s)"
            self._died(number, reason)
            actions.append(KillWorker(number, reason))
        return actions

    # --- decisions ---

    def _next_actions(self) -> list[Action]:
        certain = self._boundary(1.0)
        actions = [] if self.finished else self._commit_what_is_certain(certain)
        self._decide_the_end(certain)
        if self._finish is not None:
            return [*actions, self._finish]
        if not self._draining:
            actions += self._give_out_work()
        return actions

    def _expected(self, rate: float) -> float:
        """Gain of all shards below the frontier, unfinished candidates accepted at `rate`."""
        unfinished = len(self._shards) - len(self._held)
        return self._gained + self._held_gain + rate * self._policy.shard_size * unfinished

    def _boundary(self, rate: float) -> int:
        """End of the shortest prefix expected to reach the target, at most the frontier.

        With a rate of 1, what is below it belongs to the data set whatever the rest gains. A gap
        below a commit is filled whatever the target: finished runs have no gaps.
        """
        target = self._policy.target
        if self._expected(rate) < target:
            return self._frontier
        total = float(self._prefix_gain)
        for number in range(self._prefix, self._frontier):
            if total >= target:
                return max(number, self._top)
            if number in self._gains:
                total += self._gains[number]
            elif number in self._held:
                total += self._policy.gain(self._held[number])
            else:
                total += rate * self._policy.shard_size
        return self._frontier

    def _commit_what_is_certain(self, certain: int) -> list[Action]:
        actions: list[Action] = []
        for number in sorted(self._held):
            shard = self._shards[number]
            if number < certain and not shard.committing and shard.not_before <= self._now:
                shard.committing = True
                actions.append(Commit(self._held[number]))
        return actions

    def _decide_the_end(self, certain: int) -> None:
        if self._finish is not None:
            return
        self._note_places()
        if self._prefix_gain >= self._policy.target and self._prefix >= self._top:
            self._finish = Finish(Outcome.FINISHED)
        elif (
            self._policy.counts_pairs
            and self._candidates_since_last_pair >= MAX_CANDIDATES_WITHOUT_A_PAIR
        ):
            self._stop(
                f"none of the last {self._candidates_since_last_pair} candidates was accepted: "
                "see the reasons with `mfsynth report`, then mend the prompts or the checks"
            )
        elif any(number < certain for number in self._held):
            pass  # what is whole is committed first
        elif self._draining and len(self._shards) == len(self._held) + len(self._unassigned):
            self._finish = Finish(Outcome.DRAINED, "stopped on request")
        elif self._no_place_since is not None:
            if self._now >= self._no_place_since + self._policy.deadline_s:
                self._stop(
                    f"no node to work on for {self._policy.deadline_s:g} s (runtime.deadline_s); "
                    "give the cluster nodes, then run the same command again"
                )
        elif not self._workers and not self._may_start():
            self._stop(f"no worker could start: {self._start_message}")

    def _note_places(self) -> None:
        if self._places > 0 or self._workers:
            self._no_place_since = None
        elif self._no_place_since is None:
            self._no_place_since = self._now

    def _give_out_work(self) -> list[Action]:
        actions: list[Action] = []
        starting = len(self._starting)
        room = len(self._idle) + len(self._writing)
        new = 0
        if self._start_not_before <= self._now and self._may_start():
            new = max(0, self._slots - len(self._workers))
        if not room + new:
            return []
        wanted = self._wanted(room + starting + new)
        for number in wanted:
            if (worker := self._worker_for(number)) is not None:
                actions.append(self._assign(worker, number))
            elif starting:
                starting -= 1
            elif new:
                new -= 1
                actions.append(self._start())
        return actions + self._give_out_second_attempts()

    def _worker_for(self, number: int) -> int | None:
        """A worker for the shard: one with nothing to do, else one that only writes."""
        if self._idle:
            return next(iter(self._idle))
        # A death must name its culprit: nothing else may go on beside a shard under suspicion.
        if self._writing and not self._is_isolated(number):
            return next(iter(self._writing))
        return None

    def _is_isolated(self, number: int) -> bool:
        shard = self._shards.get(number)
        return shard is not None and shard.failures >= self._policy.max_attempts

    def _wanted(self, at_most: int) -> Iterator[int]:
        """Shards to be made now, lowest first: as many as the target is expected to need.

        Unfinished shards count at the acceptance seen so far, so that workers neither wait for
        the last shard's result nor make many shards that the prefix will not need.
        """
        rate = (self._accepted + 1) / (self._candidates + 2) if self._policy.counts_pairs else 1.0
        expected = self._expected(rate)
        needed = self._boundary(rate) if self._unassigned else 0
        again = [
            number
            for number in sorted(self._unassigned)
            if number < needed and self._shards[number].not_before <= self._now
        ]
        yield from again[:at_most]
        for number in range(self._frontier, self._frontier + at_most - len(again)):
            if expected >= self._policy.target:
                return
            yield number
            expected += rate * self._policy.shard_size

    def _start(self) -> StartWorker:
        number = next(self._numbers)
        self._workers[number] = _Worker(since=self._now)
        self._index_worker(number)
        self._set_deadline(number, None)
        return StartWorker(number)

    def _assign(self, worker: int, number: int) -> Assign:
        self._open_shards_to(number + 1)
        shard = self._shards[number]
        shard.attempts += 1
        self._unassigned.discard(number)
        isolate = self._is_isolated(number)
        batch_size = 1 if isolate else self._batch_size
        self._workers[worker].attempts[number] = _Attempt(batch_size, isolate, began=self._now)
        self._index_worker(worker)
        self._set_deadline(worker, number)
        attempt = self._new_attempt()
        return Assign(
            worker, Assignment(number, attempt, batch_size, isolate, dict(shard.quarantined))
        )

    def _give_out_second_attempts(self) -> list[Action]:
        """Late shards for workers that are left without one, lowest first."""
        if not self._idle or not self._shards_timed:
            return []
        late = sorted(n for n, at in self._stragglers().items() if at <= self._now)
        # Both lists are walked, and assigning takes workers out of one of them.
        return [
            self._assign(worker, number)
            for worker, number in zip([*self._idle], late, strict=False)
        ]

    def _stragglers(self) -> dict[int, float]:
        """Shards that may get one more attempt, and when: as soon as all they have are late."""
        late_at: dict[int, float] = {}
        for worker in self._workers.values():
            for number, attempt in worker.attempts.items():
                shard = self._shards.get(number)
                if (
                    shard is not None
                    and shard.attempts < ATTEMPTS_AT_ONCE
                    and number not in self._held
                    and not attempt.isolated
                ):
                    late_at[number] = max(late_at.get(number, 0.0), self._late_at(attempt))
        return late_at

    def _late_at(self, attempt: _Attempt) -> float:
        """When the batch in work, or at last the whole shard, is overdue."""
        due = min(1.0, (attempt.done + attempt.batch_size) / self._policy.shard_size)
        return attempt.began + STRAGGLER_FACTOR * due * self._seconds / self._shards_timed

    def _backoff(self, failures: int) -> float:
        return min(MAX_BACKOFF_S, 2.0**failures) * self._rng.uniform(0.5, 1.0)

    def _stop(self, reason: str) -> None:
        if self._finish is None:
            self._finish = Finish(Outcome.FAILED, reason)
