"""What a run has to say, and whom it tells: terminals, logs, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from mfsynth.runs.protocol import FailureKind
from mfsynth.runs.supervisor import (
    CommitFailed,
    Event,
    ShardFailed,
    WorkerDied,
    WorkerFailedToStart,
)
from mfsynth.shards.records import Receipt

if TYPE_CHECKING:
    from mfsynth.runs.watching.snapshot import Snapshot


class Cause(StrEnum):
    """Why something has to be done again.

    Attributes:
        WORKER_DIED: The worker's process is gone.
        NODE_LOST: The worker's whole node is.
        DEADLINE: The worker was silent for too long.
        NOT_STARTED: The worker could not load its model.
        OUT_OF_MEMORY: The batch was too large.
        STORE: The store or a disk is full or out of reach.
        ERROR: Anything else that the worker says of itself.
    """

    WORKER_DIED = "worker_died"
    NODE_LOST = "node_lost"
    DEADLINE = "deadline"
    NOT_STARTED = "not_started"
    OUT_OF_MEMORY = "out_of_memory"
    STORE = "store"
    ERROR = "error"


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
class Failure:
    """Something that has to be done again. `text` is one line and names the worker or shard."""

    cause: Cause
    text: str
    worker: int | None = None
    shard: int | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """A shard is part of the data set."""

    receipt: Receipt


Notice = Announcement | Failure | Committed


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


_ATTEMPT_FAILURES = {
    FailureKind.OUT_OF_MEMORY: (Cause.OUT_OF_MEMORY, "out of memory, trying a smaller batch"),
    FailureKind.ENVIRONMENT: (Cause.STORE, "trying again later"),
    FailureKind.OTHER: (Cause.ERROR, "trying again with a fresh worker"),
}


def failure_in(event: Event) -> Failure | None:
    """The failure that an event tells of, if it does."""
    match event:
        case WorkerDied(worker, text, node_lost):
            cause = Cause.NODE_LOST if node_lost else Cause.WORKER_DIED
            return Failure(cause, f"worker {worker}: {text}", worker)
        case WorkerFailedToStart(worker, text):
            return Failure(Cause.NOT_STARTED, f"worker {worker}: {text}", worker)
        case ShardFailed(worker, shard, kind, text):
            cause, remedy = _ATTEMPT_FAILURES[kind]
            return Failure(cause, f"worker {worker}: {remedy}: {text}", worker, shard)
        case CommitFailed(shard, text):
            return Failure(Cause.STORE, f"shard {shard} is not committed yet: {text}", None, shard)
    return None
