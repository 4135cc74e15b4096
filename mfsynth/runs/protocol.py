"""What the driver and its workers say to each other: small values, never pixels.

A worker answers an `Assignment` with a stream: `Progress` before every batch, then one `Made` or
one `Failed`. A worker that dies says nothing; the driver sees that for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mfsynth.shards.records import Receipt


class FailureKind(StrEnum):
    """What a failed attempt asks for.

    Attributes:
        OUT_OF_MEMORY: A smaller batch.
        ENVIRONMENT: Patience, then a person: a store or a disk that is full or out of reach.
        OTHER: A fresh worker.
    """

    OUT_OF_MEMORY = "out_of_memory"
    ENVIRONMENT = "environment"
    OTHER = "other"


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
    """

    shard: int
    attempt: str
    batch_size: int
    isolate: bool = False
    quarantined: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Started:
    """The worker has loaded its model and can take a shard."""


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The worker could not load its model; `message` is one line for the user."""

    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """A batch is about to begin.

    Attributes:
        candidate: First candidate of the batch; None once all are made and the shard is being
            written, when no candidate can be blamed any more.
        done: Candidates of the shard made so far.
    """

    candidate: int | None
    done: int


@dataclass(frozen=True, slots=True)
class Made:
    """The shard's objects are in the store under attempt-unique keys, not yet committed."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt is over, the worker is alive; `message` is one line with the cause."""

    kind: FailureKind
    message: str


Message = Progress | Made | Failed
