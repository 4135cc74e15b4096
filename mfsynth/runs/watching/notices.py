"""What a run has to say, and whom it tells: terminals, logs, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from mfsynth.runs.events import (
    Action,
    CommitFailed,
    Event,
    KillWorker,
    ShardLost,
    StartAnswered,
    WorkerDied,
    WorkerSaid,
)
from mfsynth.runs.protocol import Failed, FailureCause, NotStarted, Waiting
from mfsynth.runs.watching.snapshot import Snapshot
from mfsynth.shards.records import Receipt

# Events of announcements that others than people and logs wait for.
STALLED, UNSTALLED = "stalled", "going_on"


@dataclass(frozen=True, slots=True)
class Announcement:
    """Something that people should know.

    Attributes:
        event: What it is, for programs.
        text: The same in one line, for people.
        fields: What there is to it, for programs.
    """

    event: str
    text: str
    fields: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FailureNotice:
    """Something has to be done again. `text` is one line and names the worker or shard."""

    cause: FailureCause
    text: str
    worker: int | None = None
    shard: int | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """A shard is part of the data set."""

    receipt: Receipt


Notice = Announcement | FailureNotice | Committed


class Observer(Protocol):
    """Who wants to know how a run goes. A context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def tell(self, notice: Notice) -> None:
        """Take in what happened."""

    def show(self, snapshot: Snapshot) -> None:
        """Take in how things stand; asked twice a second, and at the end."""


_REMEDIES = {
    FailureCause.OUT_OF_MEMORY: "out of memory, trying a smaller batch",
    FailureCause.STORE: "trying again later",
    FailureCause.ERROR: "trying again with a fresh worker",
}


def failure_in(happened: Event | Action) -> FailureNotice | None:
    """The failure that an event or an action tells of, if it does."""
    match happened:
        case WorkerDied(worker, text, node_lost, log):
            cause = FailureCause.NODE_LOST if node_lost else FailureCause.WORKER_DIED
            return FailureNotice(cause, f"worker {worker}: {text}{_more(log)}", worker)
        case KillWorker(worker, silence) if silence:
            return FailureNotice(FailureCause.DEADLINE, f"worker {worker}: {silence}", worker)
        case StartAnswered(worker, NotStarted(text, log=log)):
            text = f"worker {worker}: {text}{_more(log)}"
            return FailureNotice(FailureCause.NOT_STARTED, text, worker)
        case WorkerSaid(worker, shard, Failed(cause, text, log=log)):
            text = f"worker {worker}: {_REMEDIES[cause]}: {text}{_more(log)}"
            return FailureNotice(cause, text, worker, shard)
        case WorkerSaid(worker, shard, Waiting(text)):
            text = f"worker {worker}: shard {shard} is kept until it can be written: {text}"
            return FailureNotice(FailureCause.STORE, text, worker, shard)
        case CommitFailed(shard, text):
            text = f"shard {shard} is not committed yet: {text}"
            return FailureNotice(FailureCause.STORE, text, None, shard)
        case ShardLost(shard, text):
            text = f"shard {shard} is made again: {text}"
            return FailureNotice(FailureCause.STORE, text, None, shard)
    return None


def _more(log: str) -> str:
    return f" (its log: {log})" if log else ""
