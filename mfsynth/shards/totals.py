"""Sums over the committed shards of a run, whoever made them and in however many sessions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from mfsynth.shards.records import Receipt

# The key in `Receipt.seconds` that is no phase but the whole shard.
_WHOLE = "total"


@dataclass(slots=True)
class Totals:
    """Sums over receipts, which may be added one by one and in any order.

    Attributes:
        shards: Committed shards.
        candidates: Their candidates.
        accepted: Pairs.
        rejected: Candidates that the checks filtered out.
        quarantined: Candidates that could not be made.
        seconds: Worker seconds; the end of a shard and the beginning of a worker's next one
            overlap, so this is a little more than the workers' time.
        size: Bytes of the committed objects.
        last: When the newest shard was made, ISO 8601, UTC; empty before the first.
        reasons: Rejected candidates by the check that they failed; one may fail several.
        phases: Worker seconds by phase; phases overlap.
        hosts: Shards by the machine that made them.
        devices: Shards by the device that made them, where that is known.
        prompts_read: Candidates of whose prompts it is known what the model makes of them.
        prompts_unknown: Those of them whose prompt has words that the model doesn't know.
        prompts_cut: Those of them whose prompt is longer than what the model reads.
        retries: What failed and was done again, by cause, of committed shards, where that is
            known.
    """

    shards: int = 0
    candidates: int = 0
    accepted: int = 0
    rejected: int = 0
    quarantined: int = 0
    seconds: float = 0.0
    size: int = 0
    last: str = ""
    reasons: Counter[str] = field(default_factory=Counter)
    phases: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    hosts: Counter[str] = field(default_factory=Counter)
    devices: Counter[str] = field(default_factory=Counter)
    prompts_read: int = 0
    prompts_unknown: int = 0
    prompts_cut: int = 0
    retries: Counter[str] = field(default_factory=Counter)

    def add(self, receipt: Receipt) -> None:
        """Count a committed shard."""
        self.shards += 1
        self.candidates += receipt.candidates
        self.accepted += receipt.accepted
        self.rejected += receipt.rejected
        self.quarantined += receipt.quarantined
        self.seconds += receipt.total_seconds
        self.size += sum(stored.size for stored in receipt.objects.values())
        self.last = max(self.last, receipt.created)
        self.reasons.update(receipt.reasons)
        self.hosts[receipt.worker] += 1
        if receipt.device:
            self.devices[receipt.device_name or receipt.device] += 1
        if receipt.prompts_unknown is not None and receipt.prompts_cut is not None:
            self.prompts_read += receipt.candidates
            self.prompts_unknown += receipt.prompts_unknown
            self.prompts_cut += receipt.prompts_cut
        self.retries.update(receipt.retries or {})
        for phase, seconds in phases_of(receipt):
            self.phases[phase] += seconds

    @property
    def prompts_text(self) -> str:
        """What the model can't make of prompts; empty if all are well, or nothing is known."""
        parts, of = [], f" of {self.prompts_read} prompts"
        if self.prompts_unknown:
            parts.append(f"{self.prompts_unknown}{of} have words that the model doesn't know")
        if self.prompts_cut:
            parts.append(f"{self.prompts_cut}{'' if parts else of} are longer than what it reads")
        return "; ".join(parts)

    @property
    def acceptance(self) -> float | None:
        """Share of the candidates that were accepted; None before the first shard."""
        return self.accepted / self.candidates if self.candidates else None


def totals(receipts: Iterable[Receipt]) -> Totals:
    """Sums over `receipts`."""
    sums = Totals()
    for receipt in receipts:
        sums.add(receipt)
    return sums


def phases_of(receipt: Receipt) -> list[tuple[str, float]]:
    """Phases of a shard with their seconds; they overlap."""
    return [(phase, s) for phase, s in receipt.seconds.items() if phase != _WHOLE]


def by_count(counts: Counter[str]) -> list[tuple[str, int]]:
    """Most frequent first, equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
