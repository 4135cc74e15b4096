"""The workers of a run: what each one does, since when, and what it can be given.

A worker that has made all candidates of a shard and only has to write and upload it takes the next
shard already. Near the end, when workers are left without a shard, a shard that is late
(`STRAGGLER_FACTOR`) is given to another one as well: whichever attempt is made first counts, the
other's objects are garbage. One that is made and waits for a store that takes nobody's is not late:
another would wait, too. Places for workers may come and go with the nodes of a cluster.

Every worker that owes an answer has a deadline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from mfsynth.runs.events import Wait, WaitCause, WorkerState, WorkerView
from mfsynth.runs.timers import Timers

# An attempt is late when it takes this many times as long as attempts do on average. Second ones
# are made by workers that have nothing else to do, so that one too many costs next to nothing.
STRAGGLER_FACTOR = 1.2

# Whether a shard may have another attempt beside those that it has.
MayRepeat = Callable[[int], bool]


@dataclass(slots=True)
class Attempt:
    """What a worker does about a shard.

    Attributes:
        batch_size: Candidates made together.
        isolated: They are made one by one, and nothing else beside them.
        began: When the worker was given the shard.
        candidate: First one of the batch in work; None before the first and after the last.
        done: Candidates made so far.
        writing: All are made.
        waits_since: How many shards workers had written when it last couldn't be; None before.
        shut_out: It couldn't be, though others were since the time before.
    """

    batch_size: int
    isolated: bool
    began: float
    candidate: int | None = None
    done: int = 0
    writing: bool = False
    waits_since: int | None = None
    shut_out: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether it is made, and waits for a store that takes nobody's, for all one knows."""
        return self.waits_since is not None and not self.shut_out

    @property
    def culprit(self) -> int | None:
        """The candidate to blame if the attempt ends now; None if it can't be told."""
        return self.candidate if self.isolated else None


@dataclass(slots=True)
class Worker:
    """A worker, and its attempts by shard: one that is made, and one that is written.

    Attributes:
        since: When it was started, was ready, or last ended an attempt.
        ready: It has loaded its model.
        attempts: By shard.
    """

    since: float
    ready: bool = False
    attempts: dict[int, Attempt] = field(default_factory=dict)

    def view(self, number: int, now: float) -> WorkerView:
        """What it does; of two shards, the one that it makes and not the one that it writes."""
        if not self.attempts:
            state = WorkerState.IDLE if self.ready else WorkerState.STARTING
            return WorkerView(number, state, now - self.since)
        shard, attempt = min(self.attempts.items(), key=lambda item: item[1].writing)
        state = WorkerState.WRITING if attempt.writing else WorkerState.MAKING
        return WorkerView(number, state, now - attempt.began, shard, attempt.done)

    def only_writes(self) -> bool:
        """Whether it may make a shard beside; an isolated attempt is alone to the very end."""
        return len(self.attempts) == 1 and all(
            attempt.writing and not attempt.isolated for attempt in self.attempts.values()
        )


class WorkerRoster:
    """The workers that are alive, by number, and the places for more.

    Args:
        places: For workers, to begin with.
        deadline_s: Seconds that a worker may be silent.
        shard_size: Candidates in a shard.
        patience_s: Seconds without a place before it is for good.

    Attributes:
        any_was_ready: Whether a worker has ever been.
    """

    def __init__(self, places: int, deadline_s: float, shard_size: int, patience_s: float) -> None:
        self._patience_s = patience_s
        self._deadline_s = deadline_s
        self._shard_size = shard_size
        self._workers: dict[int, Worker] = {}
        # Workers by what they can be given: nothing yet, anything, a shard to make while they
        # write one. A dictionary is a set that remembers its order.
        self._starting: dict[int, None] = {}
        self._idle: dict[int, None] = {}
        self._writing: dict[int, None] = {}
        self._numbers = count()
        self._places = places
        self._slots = places  # places that are not known to be broken
        self.any_was_ready = False
        self._deserted_since: float | None = None  # since when there is neither worker nor place
        # Of attempts, and of starts with no shard in the key.
        self._deadlines: Timers[tuple[int, int | None]] = Timers()
        self._written = 0
        self._shards_timed = 0
        self._seconds = 0.0

    # --- who is there ---

    @property
    def starting(self) -> int:
        """How many are not ready yet."""
        return len(self._starting)

    @property
    def available(self) -> int:
        """How many could be given a shard to make."""
        return len(self._idle) + len(self._writing)

    @property
    def empty_slots(self) -> int:
        """How many more there is room for."""
        return max(0, self._slots - len(self._workers))

    @property
    def has_ready_workers(self) -> bool:
        """Whether any is ready."""
        return len(self._workers) > len(self._starting)

    @property
    def has_slots(self) -> bool:
        """Whether there is a place, taken or not, that may work."""
        return self._slots > 0

    def __len__(self) -> int:
        return len(self._workers)

    def attempts(self) -> Iterator[tuple[int, Attempt]]:
        """All attempts with their shards."""
        for worker in self._workers.values():
            yield from worker.attempts.items()

    def views(self, now: float) -> tuple[WorkerView, ...]:
        """What each one does, in the order of their numbers."""
        return tuple(worker.view(number, now) for number, worker in self._workers.items())

    def next_available(self, *, alone: bool) -> int | None:
        """One with nothing to do, else one that only writes; `alone`: not one of those."""
        if self._idle:
            return next(iter(self._idle))
        return None if alone else next(iter(self._writing), None)

    # --- places ---

    def change_places(self, places: int) -> bool:
        """Nodes came or went; whether there is more room than before."""
        grown = places > self._places
        # Which ones went isn't known. If it was a good one, a start at a broken one fails again;
        # to count a broken one twice would end a run that has a good one.
        broken = max(0, self._places - self._slots - max(0, self._places - places))
        self._places, self._slots = places, places - broken
        return grown

    def give_up_slot(self) -> None:
        """A place never worked and would fail again."""
        self._slots -= 1

    def note_desertion(self, now: float) -> None:
        """Take down since when there is neither a worker nor a place for one."""
        if self._places > 0 or self._workers:
            self._deserted_since = None
        elif self._deserted_since is None:
            self._deserted_since = now

    @property
    def is_deserted(self) -> bool:
        """Whether there is neither a worker nor a place for one."""
        return self._deserted_since is not None

    def is_deserted_for_good(self, now: float) -> bool:
        """Whether a place was waited for long enough."""
        since = self._deserted_since
        return since is not None and now >= since + self._patience_s

    def wait(self, now: float) -> Wait | None:
        """For a place, if there is none."""
        if (since := self._deserted_since) is None:
            return None
        left = max(0.0, since + self._patience_s - now)
        return Wait(WaitCause.NODES, "no node with room for a worker", now - since, left)

    # --- what happens to a worker ---

    def start(self, now: float) -> int:
        """A new one, under a number that was never used."""
        number = next(self._numbers)
        self._workers[number] = Worker(since=now)
        self._index(number)
        self._deadlines.set((number, None), now + self._deadline_s)
        return number

    def ready(self, number: int, now: float) -> bool:
        """It has loaded its model; False if that is no news."""
        worker = self._workers.get(number)
        if worker is None or worker.ready:
            return False
        worker.ready, worker.since = True, now
        self._deadlines.cancel((number, None))
        self._index(number)
        self.any_was_ready = True
        return True

    def assign(self, number: int, shard: int, attempt: Attempt) -> None:
        """It is given a shard."""
        self._workers[number].attempts[shard] = attempt
        self._index(number)
        self._deadlines.set((number, shard), attempt.began + self._deadline_s)

    def progress(
        self, number: int, shard: int, candidate: int | None, done: int, now: float
    ) -> None:
        """A sign of life; see `Progress`."""
        worker = self._workers.get(number)
        attempt = worker.attempts.get(shard) if worker is not None else None
        if attempt is not None:
            attempt.candidate, attempt.done = candidate, done
            attempt.writing = candidate is None
            self._deadlines.set((number, shard), now + self._deadline_s)
            if attempt.writing:
                self._index(number)

    def waits(self, number: int, shard: int, now: float) -> bool:
        """A sign of life of one that can't write its shard; False if it has none to write."""
        worker = self._workers.get(number)
        if worker is None or shard not in worker.attempts:
            return False
        attempt = worker.attempts[shard]
        if attempt.waits_since is not None:
            # One that was under way is no sign for good. But before its shard is late nobody could
            # take it over, and there may be no others after.
            others = self._written > attempt.waits_since
            attempt.shut_out = others or (attempt.shut_out and now < self._due_at(attempt))
        attempt.waits_since = self._written
        self._deadlines.set((number, shard), now + self._deadline_s)
        return True

    def end_attempt(self, number: int, shard: int, now: float) -> Attempt | None:
        """Its attempt is over; None if it had none at this shard."""
        worker = self._workers.get(number)
        if worker is None or shard not in worker.attempts:
            return None
        attempt = worker.attempts.pop(shard)
        worker.since = now
        self._deadlines.cancel((number, shard))
        self._index(number)
        return attempt

    def remove(self, number: int) -> Worker | None:
        """It is gone, with what it was at; None if it was not there."""
        if (worker := self._workers.pop(number, None)) is None:
            return None
        for shard in (None, *worker.attempts):
            self._deadlines.cancel((number, shard))
        self._index(number)
        return worker

    def _index(self, number: int) -> None:
        """Put a worker where `next_available` looks for it."""
        for group in (self._starting, self._idle, self._writing):
            group.pop(number, None)
        if (worker := self._workers.get(number)) is None:
            return
        if not worker.ready:
            self._starting[number] = None
        elif not worker.attempts:
            self._idle[number] = None
        elif worker.only_writes():
            self._writing[number] = None

    # --- silence and lateness ---

    def silent(self, now: float) -> Iterator[int]:
        """Workers past their deadlines; one that is removed meanwhile is not told of again."""
        for number, _ in self._deadlines.due(now):
            yield number

    def note_written(self, attempt: Attempt, now: float) -> None:
        """Its shard is made and written: that is how long one takes, unless it had to wait."""
        self._written += 1
        if attempt.waits_since is None:
            self._shards_timed += 1
            self._seconds += now - attempt.began

    def second_attempts(self, may_repeat: MayRepeat, now: float) -> list[tuple[int, int]]:
        """Workers that are left without a shard, each with a late one, lowest first."""
        if not self._has_time_to_spare():
            return []
        late = sorted(shard for shard, at in self._late_at(may_repeat).items() if at <= now)
        return list(zip(self._idle, late, strict=False))

    def alarms(self, may_repeat: MayRepeat) -> Iterator[float]:
        """When time alone will change something."""
        if (deadline := self._deadlines.earliest()) is not None:
            yield deadline
        if self._deserted_since is not None:
            yield self._deserted_since + self._patience_s
        if self._has_time_to_spare():
            yield from filter(math.isfinite, self._late_at(may_repeat).values())

    def _has_time_to_spare(self) -> bool:
        """Whether someone is idle, and it is known how long a shard takes."""
        return bool(self._idle) and self._shards_timed > 0

    def _late_at(self, may_repeat: MayRepeat) -> dict[int, float]:
        """Shards that may get one more attempt, and when: as soon as all they have are late."""
        late_at: dict[int, float] = {}
        for shard, attempt in self.attempts():
            if not attempt.isolated and may_repeat(shard):
                late_at[shard] = max(late_at.get(shard, 0.0), self._overdue_at(attempt))
        return late_at

    def _overdue_at(self, attempt: Attempt) -> float:
        """When the batch in work, or at last the whole shard, is overdue; what is kept never is."""
        return math.inf if attempt.is_kept else self._due_at(attempt)

    def _due_at(self, attempt: Attempt) -> float:
        if not self._shards_timed:
            return math.inf
        due = min(1.0, (attempt.done + attempt.batch_size) / self._shard_size)
        return attempt.began + STRAGGLER_FACTOR * due * self._seconds / self._shards_timed
