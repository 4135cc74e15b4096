"""How a run stands, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mfsynth.formatting import counts, duration
from mfsynth.runs.supervisor import View, WorkerState
from mfsynth.runs.watching.notices import Cause
from mfsynth.shards.records import Receipt
from mfsynth.shards.totals import Totals, by_count


@dataclass(slots=True)
class RunTotals(Totals):
    """Running totals of a run, earlier sessions included, and what they are to become.

    Attributes:
        target: Pairs, or candidates, that end the run.
        unit: `pairs` or `candidates`: what the target counts.
    """

    target: int = 0
    unit: str = "pairs"

    @classmethod
    def of(cls, receipts: Iterable[Receipt], target: int, unit: str) -> RunTotals:
        """The totals of what the store holds."""
        totals = cls(target=target, unit=unit)
        for receipt in receipts:
            totals.add(receipt)
        return totals

    @property
    def gained(self) -> int:
        """Towards the target."""
        return self.accepted if self.unit == "pairs" else self.candidates

    def rejects(self) -> str:
        """Rejects by reason, most frequent first: `9 rejected (registration 7, …)`."""
        parts = []
        if self.rejected:
            parts.append(f"{self.rejected} rejected ({counts(dict(by_count(self.reasons)))})")
        if self.quarantined:
            parts.append(f"{self.quarantined} quarantined")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of a run.

    Attributes:
        totals: Of committed shards.
        view: Of what is in work.
        seconds: Since the first worker was ready, or 0.
        made: Candidates made in this session, those of unfinished shards included.
        shard_size: Candidates in a shard.
        failures: Of this session, by cause.
    """

    totals: RunTotals
    view: View
    seconds: float
    made: int
    shard_size: int
    failures: Mapping[Cause, int] = field(default_factory=dict)

    @property
    def rate(self) -> float | None:
        """Candidates a second in this session; None while there is nothing to tell it from."""
        return self.made / self.seconds if self.made and self.seconds > 0 else None

    @property
    def eta_s(self) -> float | None:
        """Seconds to the target at this rate and this acceptance; None if not known yet."""
        share = self.totals.acceptance if self.totals.unit == "pairs" else 1.0
        if not share or self.rate is None:
            return None
        missing = max(0.0, (self.totals.target - self.totals.gained) / share - self.view.in_work)
        return missing / self.rate

    def workers(self) -> dict[WorkerState, int]:
        """How many workers there are in each state, zeros included."""
        found = Counter(worker.state for worker in self.view.workers)
        return {state: found[state] for state in WorkerState}

    def advance(self) -> str:
        """How far it is, how fast it goes, for how long yet."""
        totals = self.totals
        parts = [f"{totals.gained}/{totals.target} {totals.unit}"]
        parts.append(f"{totals.shards} shard{'s' if totals.shards != 1 else ''}")
        if self.view.in_work:
            parts.append(f"+{self.view.in_work} in work")
        if totals.acceptance is not None:
            parts.append(f"{totals.acceptance:.0%} accepted")
        if self.rate is not None:
            parts.append(f"{self.rate:.2f} candidates/s")
        if self.eta_s:
            parts.append(f"about {duration(self.eta_s)} left")
        return ", ".join(parts)

    def pool(self) -> str:
        """Workers by state: `6 making, 2 starting`."""
        present = [f"{number} {state}" for state, number in self.workers().items() if number]
        return ", ".join(present) or "no worker"

    def troubles(self) -> str:
        """Failures by cause: `3 failures (worker died 2, out of memory 1)`; empty without any."""
        if not (number := sum(self.failures.values())):
            return ""
        return f"{number} failure{'s' if number > 1 else ''} ({failure_counts(self.failures)})"

    def line(self) -> str:
        """All of it in one line."""
        parts = [self.advance(), self.pool(), self.totals.rejects(), self.troubles()]
        return "; ".join(filter(None, parts))


def failure_counts(failures: Mapping[Cause, int]) -> str:
    """`worker died 2, out of memory 1`, most frequent first."""
    named = Counter({cause.replace("_", " "): number for cause, number in failures.items()})
    return counts(dict(by_count(named)))
