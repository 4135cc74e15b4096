"""How a run shows itself to people: rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mfsynth.formatting import duration, printable
from mfsynth.runs.events import WorkerView
from mfsynth.runs.protocol import FailureCause
from mfsynth.runs.watching.aside import Aside
from mfsynth.runs.watching.notices import (
    Announcement,
    Committed,
    FailureNotice,
    Notice,
    Observer,
)
from mfsynth.runs.watching.snapshot import Snapshot
from mfsynth.runs.watching.streams import is_terminal, switch_off

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Often enough to see that it lives, seldom enough for a log file; a notice may come sooner, but a
# thousand workers commit ten shards a second.
PLAIN_INTERVAL_S = 15.0
PLAIN_NOTICE_S = 3.0
# What fits below a bar. Of more workers, those that are longest at their shards are of interest.
WORKERS_SHOWN = 8
LONGEST_SHOWN = 3
# When a store fails, it fails for a thousand workers: the counts tell of the others.
FAILURE_LINES = 5
FAILURE_LINES_S = 60.0


class FailureLines:
    """Which failures get a line of their own: a few of a cause a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines: defaultdict[FailureCause, deque[float]] = defaultdict(
            lambda: deque(maxlen=FAILURE_LINES)
        )

    def admits(self, failure: FailureNotice) -> bool:
        """Whether this one does; then it counts."""
        lines, now = self._lines[failure.cause], self._clock()
        if len(lines) == FAILURE_LINES and now - lines[0] < FAILURE_LINES_S:
            return False
        lines.append(now)
        return True


class PlainDisplay:
    """A line soon after a shard is committed, and now and then between, on standard error."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = -math.inf
        self._due = False
        self._failures = FailureLines(clock)

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, notice: Notice) -> None:
        """Write a line, at once or with the next snapshot."""
        match notice:
            case Committed():
                self._due = True
            case Announcement(text=text):
                _write(text)
            case FailureNotice(text=text) if self._failures.admits(notice):
                _write(text)

    def show(self, snapshot: Snapshot) -> None:
        """Write a line if there is something to say or it has been quiet for long."""
        if self._clock() - self._last >= (PLAIN_NOTICE_S if self._due else PLAIN_INTERVAL_S):
            _write(snapshot.line())
            self._due, self._last = False, self._clock()


def default_display() -> Observer:
    """Rich on a terminal, plain lines elsewhere; never in the way of a run."""
    inner = RichDisplay() if is_terminal(sys.stderr) else PlainDisplay()
    return Aside(inner, partial(switch_off, sys.stderr))


class RichDisplay:
    """A bar with numbers and workers below it, redrawn in place, on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = console or Console(stderr=True)
        # Redrawn when it is asked to: rich's own thread would fail unseen.
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._failures = FailureLines(time.monotonic)

    def __enter__(self) -> RichDisplay:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def tell(self, notice: Notice) -> None:
        """Write a line above the bar."""
        match notice:
            case Announcement(text=text):
                self._print(text)
            case FailureNotice(text=text) if self._failures.admits(notice):
                self._print(text, "yellow")

    def show(self, snapshot: Snapshot) -> None:
        """Redraw."""
        self._live.update(rendering(snapshot), refresh=True)

    def _print(self, text: str, style: str | None = None) -> None:
        text = printable(text)
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def rendering(snapshot: Snapshot) -> RenderableType:
    """A snapshot as `RichDisplay` draws it."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    target = snapshot.goal.target
    there = min(snapshot.gained, target)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(target, there, width=60), f"{there / target:.0%}")
    parts: list[RenderableType] = [bar, Text(snapshot.progress_text())]
    if waits := snapshot.waits_text():
        parts.append(Text(printable(waits), style="bold yellow"))
    if rejects := snapshot.rejects_text():
        parts.append(Text(printable(rejects)))
    if failures := snapshot.failures_text():
        parts.append(Text(printable(failures), style="yellow"))
    workers = snapshot.view.workers
    if 0 < len(workers) <= WORKERS_SHOWN:
        return Group(*parts, _table(workers, snapshot.goal.shard_size))
    by_state = f"{len(workers)} workers: {snapshot.workers_text()}"
    parts.append(Text(by_state if workers else "no worker yet"))
    if longest := _longest(workers):
        parts.append(_table(longest, snapshot.goal.shard_size))
    return Group(*parts)


def _longest(workers: Sequence[WorkerView]) -> list[WorkerView]:
    busy = (worker for worker in workers if worker.shard is not None)
    return sorted(busy, key=lambda worker: -worker.seconds)[:LONGEST_SHOWN]


def _table(workers: Sequence[WorkerView], shard_size: int) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("worker", justify="right")
    table.add_column("state")
    table.add_column("shard", justify="right")
    table.add_column("candidates", justify="right")
    table.add_column("for", justify="right")
    for worker in workers:
        at = ("", "")
        if worker.shard is not None:
            at = (str(worker.shard), f"{worker.made} of {shard_size}")
        table.add_row(str(worker.worker), worker.state.value, *at, duration(worker.seconds))
    return table


def _write(text: str) -> None:
    if sys.stderr is not None:
        print(printable(text), file=sys.stderr, flush=True)
