"""Which worker does what next: a state machine over events, with no Ray, no clock and no IO.

It routes events to three parts and asks them what follows: `ledger` (the shards: what a run
consists of), `roster` (the workers: who can be given something) and `retries` (the failures: what
is tried again, and when).

**Workers are never idle while there is work.** A worker that is free takes the lowest shard that
is expected to be needed; one that is left over takes one that another worker is late with.

**It always ends.** Every worker that owes an answer has a deadline, every wait has an end, and
each kind of failure has a limit after which the run stops and says why.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

from mfsynth.formatting import duration
from mfsynth.runs.events import (
    Action,
    Assign,
    Commit,
    CommitFailed,
    Drain,
    Event,
    Finish,
    KillWorker,
    Outcome,
    PlacesChanged,
    ShardCommitted,
    ShardLost,
    StartAnswered,
    StartWorker,
    Tick,
    View,
    WorkerDied,
    WorkerSaid,
)
from mfsynth.runs.ledger import ShardLedger
from mfsynth.runs.policy import Policy
from mfsynth.runs.protocol import (
    Assignment,
    Failed,
    FailureCause,
    Made,
    NotStarted,
    Progress,
    Started,
    Waiting,
)
from mfsynth.runs.retries import Retries
from mfsynth.runs.roster import Attempt, Worker, WorkerRoster
from mfsynth.shards.records import Receipt

# At an acceptance of 2 % the chance to see no pair among so many candidates is below 1e-4.
MAX_CANDIDATES_WITHOUT_A_PAIR = 512


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
        self._ledger = ShardLedger(policy, committed)
        self._roster = WorkerRoster(
            policy.workers, policy.deadline_s, policy.shard_size, policy.patience_s
        )
        self._retries = Retries(policy.max_attempts, policy.patience_s, rng)
        self._batch_size = policy.batch_size
        self._draining = False
        self._now = 0.0
        self._finish: Finish | None = None

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
            case StartAnswered(worker, Started()):
                if self._roster.ready(worker, now):
                    self._retries.forgive_starts()
            case StartAnswered(worker, NotStarted() as answer):
                actions += self._failed_to_start(worker, answer)
            case WorkerSaid(worker, shard, Progress(candidate, done)):
                self._roster.progress(worker, shard, candidate, done, now)
            case WorkerSaid(worker, _, Made(receipt)):
                self._made(worker, receipt)
            case WorkerSaid(worker, shard, Waiting(text)):
                if self._roster.waits(worker, shard, now):
                    self._stop_for(self._retries.write_waits(shard, text, now))
            case WorkerSaid(worker, shard, Failed() as failure):
                actions += self._failed(worker, shard, failure)
            case WorkerDied(worker, text, node_lost):
                self._died(worker, text, node_lost=node_lost)
            case ShardCommitted(receipt):
                self._committed(receipt)
            case CommitFailed(shard, text, may_pass):
                if self._ledger.commit_failed(shard):
                    self._stop_for(self._retries.commit_failed(shard, text, now, may_pass=may_pass))
            case ShardLost(shard, text):
                if self._ledger.lose(shard):
                    self._stop_for(self._retries.lost(shard, text, now))
            case PlacesChanged(places):
                if self._roster.change_places(places):
                    self._retries.forgive_starts()
            case Drain():
                self._draining = True
                self._retries.hurry(now)
            case Tick():
                pass
        actions += self._enforce_deadlines()
        return actions + self._next_actions()

    def wake_at(self) -> float | None:
        """When a `Tick` is due at the latest; None if only an event can change anything."""
        times = [*self._roster.alarms(self._ledger.may_have_another_attempt)]
        if (wait := self._retries.wake_at(self._now)) is not None:
            times.append(wait)
        return min((at for at in times if at > self._now), default=None)

    def view(self) -> View:
        """Where things stand."""
        in_work: dict[int, int] = {}
        for shard, attempt in self._roster.attempts():
            if self._ledger.is_unmade(shard):
                in_work[shard] = max(in_work.get(shard, 0), attempt.done)
        nodes = self._roster.wait(self._now)
        waits = (*self._retries.waits(self._now), *([nodes] if nodes else ()))
        return View(sum(in_work.values()), self._roster.views(self._now), waits)

    def shards_to_make(self, at_most: int) -> int:
        """How many shards the target is expected to need yet, those in work included."""
        wanted = 0 if self.finished or self._draining else sum(1 for _ in self._wanted(at_most))
        return min(at_most, self._ledger.in_work + wanted)

    # --- events ---

    def _failed_to_start(self, number: int, answer: NotStarted) -> list[Action]:
        if self._remove(number) is None:
            return []
        if answer.may_pass:
            self._stop_for(self._retries.start_waits(answer.message, self._now))
            return [KillWorker(number)]
        self._retries.start_failed(answer.message)
        if self._roster.any_was_ready:
            self._retries.delay_starts(self._now)
        else:
            # Its place never worked and would fail again.
            self._roster.give_up_slot()
        return [KillWorker(number)]

    def _died(self, number: int, message: str, *, node_lost: bool = False) -> None:
        worker = self._remove(number)
        if worker is None:
            return
        if not worker.ready:
            self._retries.start_failed(message)
            self._retries.delay_starts(self._now)
        for shard, attempt in worker.attempts.items():
            # Which of the two it was can't be told; one that is innocent soon runs alone.
            self._blame(shard, attempt, message, node_lost=node_lost)

    def _remove(self, number: int) -> Worker | None:
        """Forget a worker; its attempts are over."""
        worker = self._roster.remove(number)
        for shard in worker.attempts if worker is not None else ():
            self._ledger.release(shard)
        return worker

    def _end_attempt(self, number: int, shard: int) -> Attempt | None:
        attempt = self._roster.end_attempt(number, shard, self._now)
        if attempt is not None:
            self._ledger.release(shard)
        return attempt

    def _made(self, number: int, receipt: Receipt) -> None:
        if (attempt := self._end_attempt(number, receipt.shard)) is not None:
            self._roster.note_written(attempt, self._now)
            self._retries.written(receipt.shard)
            self._ledger.hold(receipt)

    def _failed(self, number: int, shard: int, failure: Failed) -> list[Action]:
        cause, message = failure.cause, failure.message
        if (attempt := self._end_attempt(number, shard)) is None:
            return []
        if cause is FailureCause.OUT_OF_MEMORY and attempt.batch_size > 1:
            self._batch_size = min(self._batch_size, attempt.batch_size // 2)
        elif cause is FailureCause.STORE:
            if self._ledger.is_unmade(shard):
                reason = self._retries.store_failed(
                    shard, message, self._now, may_pass=failure.may_pass
                )
                self._stop_for(reason)
        else:
            # An error can leave a device's context broken for good: only a fresh process is
            # known to be clean.
            self._remove(number)
            self._blame(shard, attempt, message)
            return [KillWorker(number)]
        return []

    def _blame(
        self, shard: int, attempt: Attempt, message: str, *, node_lost: bool = False
    ) -> None:
        # Otherwise another attempt has made it, or may yet.
        if self._ledger.is_unassigned(shard):
            self._stop_for(
                self._retries.attempt_ended(shard, attempt.culprit, message, node_lost=node_lost)
            )

    def _committed(self, receipt: Receipt) -> None:
        self._ledger.note_commit(receipt)
        self._retries.forget(receipt.shard)

    def _enforce_deadlines(self) -> list[Action]:
        actions: list[Action] = []
        for number in self._roster.silent(self._now):
            reason = f"silent for {self._policy.deadline_s:g} s (runtime.deadline_s)"
            self._died(number, reason)
            actions.append(KillWorker(number, reason))
        return actions

    # --- decisions ---

    def _next_actions(self) -> list[Action]:
        certain = self._ledger.certain()
        actions = [] if self.finished else self._commit(certain)
        if self._finish is None:
            self._decide_the_end(waits_for_commits=bool(certain))
        if self._finish is not None:
            return [*actions, self._finish]
        if not self._draining:
            actions += self._give_out_work()
        return actions

    def _commit(self, certain: Iterable[Receipt]) -> list[Action]:
        actions: list[Action] = []
        for receipt in certain:
            shard = receipt.shard
            if not self._ledger.is_committing(shard) and self._retries.may_try(shard, self._now):
                self._ledger.begin_commit(shard)
                actions.append(Commit(receipt))
        return actions

    def _decide_the_end(self, *, waits_for_commits: bool) -> None:
        ledger, roster = self._ledger, self._roster
        roster.note_desertion(self._now)
        if ledger.is_complete:
            self._finish = Finish(Outcome.FINISHED)
        elif (
            self._policy.counts_pairs
            and ledger.candidates_since_last_pair >= MAX_CANDIDATES_WITHOUT_A_PAIR
        ):
            self._stop_for(
                f"none of the last {ledger.candidates_since_last_pair} candidates was accepted: "
                "see the reasons with `mfsynth report`, then mend the prompts or the checks"
            )
        elif waits_for_commits:
            pass  # what is whole is committed first
        elif self._draining and not ledger.in_work:
            self._finish = Finish(Outcome.DRAINED, "stopped on request")
        elif roster.is_deserted:
            if roster.is_deserted_for_good(self._now):
                self._stop_for(
                    f"no node to work on for {duration(self._policy.patience_s)} "
                    "(runtime.patience); give the cluster nodes, then run the same command again"
                )
        elif not roster and not self._starts_have_a_chance():
            self._stop_for(f"no worker could start: {self._retries.start_message}")

    def _stop_for(self, reason: str | None) -> None:
        """End the run with the first reason that there is."""
        if reason is None or self._finish is not None:
            return
        if self._draining and self._retries.is_out_of_patience:
            lost = "stopped on request; the shards in work are lost, nothing else"
            self._finish = Finish(Outcome.DRAINED, f"{lost}: {reason}")
        else:
            self._finish = Finish(Outcome.FAILED, reason)

    def _starts_have_a_chance(self) -> bool:
        """Whether some worker works, or not too many failed."""
        if self._roster.has_ready_workers:
            return True
        return self._roster.has_slots and self._retries.starts_have_a_chance

    def _give_out_work(self) -> list[Action]:
        actions: list[Action] = []
        starting, new = self._roster.starting, 0
        if self._retries.may_start(self._now) and self._starts_have_a_chance():
            new = self._roster.empty_slots
        if not (room := self._roster.available + new):
            return []
        for shard in self._wanted(room + starting):
            # A death must name its culprit: nothing else may go on beside a shard under suspicion.
            worker = self._roster.next_available(alone=self._retries.is_suspect(shard))
            if worker is not None:
                actions.append(self._assign(worker, shard))
            elif starting:
                starting -= 1
            elif new:
                new -= 1
                actions.append(StartWorker(self._roster.start(self._now)))
        late = self._roster.second_attempts(self._ledger.may_have_another_attempt, self._now)
        return actions + [self._assign(worker, shard) for worker, shard in late]

    def _wanted(self, at_most: int) -> Iterator[int]:
        return self._ledger.wanted(at_most, lambda shard: self._retries.may_try(shard, self._now))

    def _assign(self, worker: int, shard: int) -> Assign:
        isolate = self._retries.is_suspect(shard)
        batch_size = 1 if isolate else self._batch_size
        self._ledger.assign(shard)
        self._roster.assign(worker, shard, Attempt(batch_size, isolate, began=self._now))
        assignment = Assignment(
            shard, self._new_attempt(), batch_size, isolate, self._retries.quarantined(shard)
        )
        return Assign(worker, assignment)
