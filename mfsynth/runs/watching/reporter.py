"""The books of a session: what is committed, what failed, and who is told."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Collection

from mfsynth.runs.events import Action, Event, ShardCommitted, StartAnswered, View
from mfsynth.runs.policy import Goal
from mfsynth.runs.protocol import FailureCause, Started
from mfsynth.runs.watching.notices import (
    Announcement,
    Committed,
    Notice,
    Observer,
    failure_in,
)
from mfsynth.runs.watching.snapshot import Snapshot
from mfsynth.runs.watching.stalls import StallWatch
from mfsynth.shards.records import Receipt
from mfsynth.shards.totals import totals


class Reporter:
    """Keeps the books of one process' work on a run and tells observers.

    Args:
        goal: What ends the run.
        earlier: Receipts of earlier sessions.
        display: The first observer.

    Attributes:
        committed: Shards that are committed, in whatever session.
        totals: Over them.
        failures: Of this session, by cause.
    """

    def __init__(self, goal: Goal, earlier: Collection[Receipt], display: Observer) -> None:
        self._goal = goal
        self._observers = [display]
        self.committed = {receipt.shard for receipt in earlier}
        self.totals = totals(earlier)
        self.failures: Counter[FailureCause] = Counter()
        self._candidates_before = self.totals.candidates
        self._gained_before = goal.gained(self.totals)
        self._ready_since: float | None = None
        self._stalls = StallWatch()

    @property
    def gained(self) -> int:
        """What this session added to the target."""
        return self._goal.gained(self.totals) - self._gained_before

    def add_observer(self, observer: Observer) -> None:
        """Tell one more from now on."""
        self._observers.append(observer)

    def record(self, happened: Event | Action) -> None:
        """Take something down, and tell of it if it is a commit or a failure."""
        match happened:
            case StartAnswered(answer=Started()):
                self._ready_since = self._ready_since or time.monotonic()
            case ShardCommitted(receipt) if receipt.shard not in self.committed:
                self.committed.add(receipt.shard)
                self.totals.add(receipt)
                self._tell(Committed(receipt))
            case _ if failure := failure_in(happened):
                self.failures[failure.cause] += 1
                self._tell(failure)

    def announce(self, event: str, text: str, **fields: str | int | float) -> None:
        """Tell of something else; see `Announcement`."""
        self._tell(Announcement(event, text, fields))

    def show(self, view: View) -> None:
        """Tell how things stand, and whether they do."""
        now = time.monotonic()
        if (change := self._stalls.look(view, now)) is not None:
            self._tell(change)
        snapshot = Snapshot(
            goal=self._goal,
            totals=copy.deepcopy(self.totals),  # observers have threads of their own
            view=view,
            seconds=now - self._ready_since if self._ready_since else 0.0,
            made=self.totals.candidates - self._candidates_before + view.in_work,
            failures=Counter(self.failures),
        )
        for observer in self._observers:
            observer.show(snapshot)

    def _tell(self, notice: Notice) -> None:
        for observer in self._observers:
            observer.tell(notice)
