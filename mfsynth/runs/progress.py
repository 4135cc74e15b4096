"""How a run stands, for people: rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from mfsynth.runs.supervisor import View
from mfsynth.shards.records import Receipt

# Often enough to see that it lives, seldom enough for a log file.
PLAIN_INTERVAL_S = 15.0


@dataclass(slots=True)
class Tally:
    """Running totals of a run, earlier sittings included.

    Attributes:
        target: Pairs, or candidates, that end the run.
        unit: `pairs` or `candidates`: what the target counts.
        earlier: What earlier sittings had gained when this one began.
    """

    target: int
    unit: str
    earlier: int = 0
    shards: int = 0
    candidates: int = 0
    accepted: int = 0
    rejected: int = 0
    quarantined: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, receipts: Iterable[Receipt], target: int, unit: str) -> Tally:
        """The tally of what the store holds."""
        tally = cls(target, unit)
        for receipt in receipts:
            tally.add(receipt)
        tally.earlier = tally.gained
        return tally

    def add(self, receipt: Receipt) -> None:
        """Count a committed shard."""
        self.shards += 1
        self.candidates += receipt.candidates
        self.accepted += receipt.accepted
        self.rejected += receipt.rejected
        self.quarantined += receipt.quarantined
        self.reasons.update(receipt.reasons)

    @property
    def gained(self) -> int:
        """Towards the target."""
        return self.accepted if self.unit == "pairs" else self.candidates

    @property
    def acceptance(self) -> float | None:
        """Share of the candidates that were accepted; None before the first shard."""
        return self.accepted / self.candidates if self.candidates else None

    def rejects(self) -> str:
        """Rejects by reason, most frequent first: `9 rejected (registration 7, …)`."""
        parts = []
        if self.rejected:
            reasons = ", ".join(f"{name} {count}" for name, count in self.reasons.most_common())
            parts.append(f"{self.rejected} rejected ({reasons})")
        if self.quarantined:
            parts.append(f"{self.quarantined} quarantined")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Standing:
    """A moment of a run.

    Attributes:
        tally: Of committed shards.
        view: Of what is in work.
        seconds: Since the first worker was ready, or 0.
        made: Candidates made in this sitting, those of unfinished shards included.
    """

    tally: Tally
    view: View
    seconds: float
    made: int

    @property
    def rate(self) -> float | None:
        """Candidates a second in this sitting; None while there is nothing to tell it from."""
        return self.made / self.seconds if self.made and self.seconds > 0 else None

    @property
    def eta_s(self) -> float | None:
        """Seconds to the target at this rate and this acceptance; None if not known yet."""
        share = self.tally.acceptance if self.tally.unit == "pairs" else 1.0
        if not share or self.rate is None:
            return None
        missing = max(0.0, (self.tally.target - self.tally.gained) / share - self.view.in_work)
        return missing / self.rate

    def line(self) -> str:
        """All of it in one line."""
        tally = self.tally
        parts = [f"{tally.gained}/{tally.target} {tally.unit}", f"{tally.shards} shards"]
        if self.view.in_work:
            parts.append(f"+{self.view.in_work} candidates in work")
        if tally.acceptance is not None:
            parts.append(f"{tally.acceptance:.0%} accepted")
        if self.rate is not None:
            parts.append(f"{self.rate:.2f} candidates/s")
        if self.eta_s is not None:
            parts.append(f"about {duration(self.eta_s)} left")
        if not self.view.workers:
            parts.append("starting workers" if self.view.starting else "no worker")
        if rejects := tally.rejects():
            parts.append(rejects)
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class Display(Protocol):
    """Where a run shows itself. A context manager."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""

    def show(self, standing: Standing, *, news: bool) -> None:
        """Show how things stand; `news` if a shard was committed since the last call."""


class PlainDisplay:
    """A line when a shard is committed, and now and then between, on standard error."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Write the line."""
        print(text, file=sys.stderr, flush=True)

    def show(self, standing: Standing, *, news: bool) -> None:
        """Write a line if there is news or it has been quiet for long."""
        if news or self._clock() - self._last >= PLAIN_INTERVAL_S:
            self.note(standing.line())
            self._last = self._clock()


class RichDisplay:
    """A bar with the line below it, both redrawn in place, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._live = Live(console=self._console, transient=True)

    def __enter__(self) -> RichDisplay:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Write the line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, standing: Standing, *, news: bool) -> None:
        """Redraw."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        tally = standing.tally
        bar = ProgressBar(tally.target, min(tally.gained, tally.target), width=60)
        self._live.update(Group(bar, Text(standing.line())))
