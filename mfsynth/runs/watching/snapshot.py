"""How a run stands, in numbers and in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from mfsynth.formatting import counts, duration
from mfsynth.runs.events import View, Wait, WaitCause, WorkerState
from mfsynth.runs.policy import Goal
from mfsynth.runs.protocol import FailureCause
from mfsynth.shards.totals import Totals, by_count


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of a run.

    Attributes:
        goal: What ends it.
        totals: Of committed shards, those of earlier sessions included.
        view: Of what is in work.
        seconds: Since the first worker was ready, or 0.
        made: Candidates made in this session, those of unfinished shards included.
        failures: Of this session, by cause.
    """

    goal: Goal
    totals: Totals
    view: View
    seconds: float
    made: int
    failures: Mapping[FailureCause, int]

    @property
    def gained(self) -> int:
        """Towards the target."""
        return self.goal.gained(self.totals)

    @property
    def rate(self) -> float | None:
        """Candidates a second in this session; None while there is nothing to tell it from."""
        return self.made / self.seconds if self.made and self.seconds > 0 else None

    @property
    def eta_s(self) -> float | None:
        """Seconds to the target at this rate and this acceptance; None if not known yet.

        Shards are made whole, each by one worker: the last ones leave the others idle.
        """
        share = self.totals.acceptance if self.goal.counts_pairs else 1.0
        if not share or self.rate is None:
            return None
        missing = max(0.0, self.goal.target - self.gained) / share
        if (left := self.goal.left(self.totals)) is not None:
            missing = min(missing, left)  # the source may end before the target is reached
        shards = math.ceil(missing / self.goal.shard_size)
        at_work = [worker for worker in self.view.workers if worker.shard is not None]
        speed = self.rate * min(1.0, shards / max(1, len(at_work)))
        to_make = shards * self.goal.shard_size - self._made_of_next(shards)
        return max(0.0, to_make / speed) if shards else 0.0

    def _made_of_next(self, shards: int) -> int:
        """Candidates made of so many shards, the lowest that are in work."""
        made: dict[int, int] = {}
        for worker in self.view.workers:
            if worker.shard is not None:
                made[worker.shard] = max(worker.made, made.get(worker.shard, 0))
        if not made:
            return self.view.in_work
        return sum(made[shard] for shard in sorted(made)[:shards])

    def workers_by_state(self) -> dict[WorkerState, int]:
        """How many workers there are in each state, zeros included."""
        found = Counter(worker.state for worker in self.view.workers)
        return {state: found[state] for state in WorkerState}

    def progress_text(self) -> str:
        """How far it is, how fast it goes, for how long yet."""
        shards = self.totals.shards
        parts = [f"{self.gained}/{self.goal.target} {self.goal.unit}"]
        parts.append(f"{shards} shard{'s' if shards != 1 else ''}")
        if self.view.in_work:
            parts.append(f"+{self.view.in_work} in work")
        if self.totals.acceptance is not None:
            parts.append(f"{self.totals.acceptance:.0%} accepted")
        if self.rate is not None:
            parts.append(f"{self.rate:.2f} candidates/s")
        if self.eta_s:
            parts.append(f"about {duration(self.eta_s)} left")
        return ", ".join(parts)

    def workers_text(self) -> str:
        """Workers by state: `6 making, 2 starting`."""
        by_state = self.workers_by_state()
        return ", ".join(f"{n} {state}" for state, n in by_state.items() if n) or "no worker"

    def rejects_text(self) -> str:
        """Rejects by reason, most frequent first: `9 rejected (registration 7, …)`."""
        totals, parts = self.totals, []
        if totals.rejected:
            parts.append(f"{totals.rejected} rejected ({counts(dict(by_count(totals.reasons)))})")
        if totals.quarantined:
            parts.append(f"{totals.quarantined} quarantined")
        return ", ".join(parts)

    def failures_text(self) -> str:
        """Failures by cause: `3 failures (worker died 2, out of memory 1)`; empty without any."""
        if not (number := sum(self.failures.values())):
            return ""
        return f"{number} failure{'s' if number > 1 else ''} ({failure_counts(self.failures)})"

    def waits_text(self) -> str:
        """What is waited for: `waiting 3 min for the store: …`; empty if nothing is."""
        return "; ".join(map(wait_text, self.view.waits))

    def line(self) -> str:
        """All of it in one line."""
        parts = (
            self.waits_text(),
            self.progress_text(),
            self.workers_text(),
            self.rejects_text(),
            self.failures_text(),
        )
        return "; ".join(filter(None, parts))


_WAITED_FOR = {
    WaitCause.STORE: "the store",
    WaitCause.NODES: "nodes",
    WaitCause.WORKERS: "workers to start",
    WaitCause.RAY: "Ray to start",
}


def wait_text(wait: Wait) -> str:
    """`waiting 3 min for the store (for 4.0 h yet: runtime.patience): no answer`."""
    return (
        f"waiting {duration(wait.seconds)} for {_WAITED_FOR[wait.cause]} "
        f"(for {duration(wait.left_s)} yet: runtime.patience): {wait.text}"
    )


def failure_counts(failures: Mapping[FailureCause, int]) -> str:
    """`worker died 2, out of memory 1`, most frequent first."""
    named = Counter({cause.replace("_", " "): number for cause, number in failures.items()})
    return counts(dict(by_count(named)))
