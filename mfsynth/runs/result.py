"""How a session of a run ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mfsynth.formatting import duration
from mfsynth.runs.events import Outcome
from mfsynth.runs.protocol import FailureCause
from mfsynth.runs.watching.snapshot import failure_counts
from mfsynth.shards.status import RunStatus
from mfsynth.shards.totals import Totals


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a session ended.

    Attributes:
        outcome: Finished, drained on request, or failed.
        reason: One line; empty for a finished run.
        totals: Totals of the run, earlier sessions included.
        status: The same as `mfsynth status` shows it.
        url: Where the output is, without credentials.
        seconds: Wall time of this session.
        gained: What this session added to the target.
        unit: What the target counts: `pairs` or `candidates`.
        failures: Of this session, by cause.
        signal: The signal that asked to stop, or None.
        target: What ends the run, in units.
        log: Where the log of this session is; "" where it has none.
    """

    outcome: Outcome
    reason: str
    totals: Totals
    status: RunStatus
    url: str
    seconds: float
    gained: int
    unit: str
    failures: Mapping[FailureCause, int]
    signal: int | None
    target: int = 0
    log: str = ""

    @property
    def exit_status(self) -> int:
        """Of the process: as shells have it where a signal asked to stop."""
        match self.outcome:
            case Outcome.FINISHED:
                return 0
            case Outcome.FAILED:
                return 1
            case Outcome.DRAINED:
                return 128 + (self.signal or 0)

    def lines(self) -> list[str]:
        """For people: the whole run, then this session."""
        failures = failure_counts(self.failures) or "none"
        return [
            *self.status.lines(),
            f"this time    {self.gained} {self.unit} in {duration(self.seconds)}, "
            f"failures: {failures}",
        ]

    def remarks(self) -> list[str]:
        """For people, after the lines: what of this session isn't to be overlooked."""
        lines = []
        there = self.totals.accepted if self.unit == "pairs" else self.totals.candidates
        if not self.gained and there > self.target:
            lines.append(
                f"target       {self.target} {self.unit}, and {there} were there before: nothing "
                "is made, and nothing removed"
            )
        if self.outcome is Outcome.FINISHED and there < self.target:
            lines.append(f"target       {self.target} {self.unit}: the source has no more items")
        if self.log:
            lines.append(f"log          {self.log}")
        return lines
