"""When the pairs of a run were made, and by which machines; as the receipts say it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from mfsynth.reports.histogram import HEIGHT, WIDTH, Bar
from mfsynth.shards.records import Receipt
from mfsynth.shards.totals import Totals

_BINS = 48
_TICKS = 4
MACHINES_SHOWN = 20
_UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine made.

    Attributes:
        name: As receipts have it.
        devices: Of its workers, as far as known.
        totals: Over its shards.
    """

    name: str
    devices: tuple[str, ...]
    totals: Totals

    @property
    def seconds_per_pair(self) -> float | None:
        """Worker seconds; None without a pair."""
        return self.totals.seconds / self.totals.accepted if self.totals.accepted else None


@dataclass(frozen=True, slots=True)
class Throughput:
    """How fast a run went.

    Attributes:
        bars: Accepted pairs an hour, over time; those of a shard are spread over its own time.
        ticks: Positions and times of the axis, UTC.
        most: Pairs an hour of the highest bar.
        hours: From the begin of the first shard to the end of the last one, pauses included.
        machines: Those with most pairs first, `MACHINES_SHOWN` at most.
        of: How many there are.
    """

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    most: float
    hours: float
    machines: tuple[Machine, ...]
    of: int


def throughput_of(receipts: Iterable[Receipt]) -> Throughput | None:
    """Throughput of committed shards; None without any."""
    known = [*receipts]
    if not known:
        return None
    ends = np.array([datetime.fromisoformat(r.created).timestamp() for r in known])
    # Receipts have whole seconds, and nothing began before there were clocks, whatever they say.
    seconds = np.array([r.total_seconds for r in known])
    took = np.clip(seconds, 1.0, np.maximum(1.0, ends))
    accepted = np.array([r.accepted for r in known], np.float64)
    begin = float((ends - took).min())
    span = float(ends.max()) - begin
    edges = np.linspace(0, span, min(_BINS, 2 * len(known)) + 1)
    # How many pairs there were at each edge: a shard's come about evenly over its time.
    made = [float(np.clip((begin + e - ends + took) / took, 0, 1) @ accepted) for e in edges]
    pairs = np.diff(made)
    rates = pairs / (np.diff(edges) / 3600)
    most = float(rates.max())
    wide = WIDTH / len(rates)
    bars = tuple(
        Bar(
            x=i * wide,
            width=wide - 1,
            accepted=float(rate * HEIGHT / most),
            rejected=0.0,
            label=f"{_time(begin + edges[i], span)} to {_time(begin + edges[i + 1], span)}: "
            f"{rate:,.0f} pairs an hour",
        )
        for i, rate in enumerate(rates)
        if rate > 0
    )
    machines = _machines(known)
    return Throughput(
        bars=bars,
        ticks=tuple(
            (i * WIDTH / _TICKS, _time(begin + i * span / _TICKS, span)) for i in range(_TICKS + 1)
        ),
        most=most,
        hours=span / 3600,
        machines=tuple(machines[:MACHINES_SHOWN]),
        of=len(machines),
    )


def _machines(receipts: Iterable[Receipt]) -> list[Machine]:
    by_name: defaultdict[str, Totals] = defaultdict(Totals)
    for receipt in receipts:
        by_name[receipt.worker or _UNKNOWN].add(receipt)
    machines = [Machine(name, tuple(sorted(t.devices)), t) for name, t in by_name.items()]
    return sorted(machines, key=lambda machine: (-machine.totals.accepted, machine.name))


def _time(timestamp: float, span: float) -> str:
    """A moment, as exactly as tells it from others in such a span of seconds."""
    moment = datetime.fromtimestamp(0, UTC) + timedelta(seconds=timestamp)
    if span < 600:
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%H:%M" if span < 86400 else "%d %b %H:%M" if span < 864000 else "%d %b")
