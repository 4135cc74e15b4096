"""What the driver and its workers say to each other: small values, never pixels.

A worker answers its start with `Started` or `NotStarted`, and an `Assignment` with a stream:
`Progress` before every batch, `Waiting` whenever what is made can't be written yet, then one `Made`
or one `Failed`. A worker that dies says nothing;
the driver sees that for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mfsynth.shards.records import Receipt

TO_SEE_IT = "; to see it: "
"""Between why a candidate is in quarantine and the command that makes it again."""


class FailureCause(StrEnum):
    """Why something has to be done again, and what it asks for.

    `Failed` comes with one of the last three; the others the driver finds out.

    Attributes:
        WORKER_DIED: The worker's process is gone; a fresh worker.
        NODE_LOST: The worker's whole node is; another place.
        DEADLINE: The worker was silent for too long; a fresh worker.
        NOT_STARTED: The worker could not load its model; another place.
        OUT_OF_MEMORY: The batch was too large; a smaller one.
        STORE: The store or a disk is full or out of reach; patience, then a person.
        ERROR: Anything else; a fresh worker.
    """

    WORKER_DIED = "worker_died"
    NODE_LOST = "node_lost"
    DEADLINE = "deadline"
    NOT_STARTED = "not_started"
    OUT_OF_MEMORY = "out_of_memory"
    STORE = "store"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at one shard.

    Attributes:
        shard: Number of the shard.
        attempt: Token that no other attempt of any driver has; part of the object keys.
        batch_size: Candidates made together.
        isolate: Make and check the candidates strictly one after another, each announced before
            it begins, so that a death names its culprit. Implies a batch of one.
        quarantined: Candidates not to be made again, with the reason to record.
        keep_rejected: Store rejected pairs as if they were accepted, for who wants to see one.
    """

    shard: int
    attempt: str
    batch_size: int
    isolate: bool = False
    quarantined: Mapping[int, str] = field(default_factory=dict)
    keep_rejected: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """The worker has loaded its model and can take a shard."""

    log: str = ""
    """`HOST:PATH` of what its process writes; "" where that is not known."""


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The worker is alive and says why it can't work.

    Attributes:
        message: One line for the user.
        may_pass: Whether another one may be able to a while later; else it would say so again.
        log: Where its process has said more, if so.
    """

    message: str
    may_pass: bool = False
    log: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life: a batch is about to begin.

    Attributes:
        candidate: First candidate of the batch; None once all are made and the shard is being
            written, when no candidate can be blamed any more.
        done: Candidates of the shard made so far.
    """

    candidate: int | None
    done: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A sign of life: the shard is made, and kept, until the store or a disk takes it.

    `message` is one line with the cause.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Made:
    """The shard's objects are in the store under attempt-unique keys, not yet committed."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt is over, the worker is alive.

    Attributes:
        cause: What it asks for.
        message: One line with the cause.
        may_pass: Of a store: whether waiting may help.
        log: Where the worker's process has said more, if so.
    """

    cause: FailureCause
    message: str
    may_pass: bool = True
    log: str = ""


StartAnswer = Started | NotStarted
Message = Progress | Waiting | Made | Failed
