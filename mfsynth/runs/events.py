"""What a supervisor is told, what it asks for, and what it shows.

The driver turns what happens into events and carries out the actions; displays and logs read both,
and the views.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mfsynth.runs.protocol import Assignment, Message, StartAnswer
from mfsynth.shards.records import Receipt

# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartAnswered:
    """The worker says whether it has loaded its model."""

    worker: int
    answer: StartAnswer


@dataclass(frozen=True, slots=True)
class WorkerSaid:
    """A message from the stream that answers an assignment to this shard."""

    worker: int
    shard: int
    message: Message


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker's process is gone, whatever it was doing; `node_lost`: with its whole node.

    `log` is where the process has left its last words, if that is known.
    """

    worker: int
    message: str
    node_lost: bool = False
    log: str = ""


@dataclass(frozen=True, slots=True)
class ShardCommitted:
    """The store holds this receipt as the shard's commit, whoever made it."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """The store did not say whether the commit exists; committing again is safe.

    `may_pass`: waiting may help.
    """

    shard: int
    message: str
    may_pass: bool = True


@dataclass(frozen=True, slots=True)
class ShardLost:
    """The driver's store doesn't hold what was made: it is not committed, and made again."""

    shard: int
    message: str


@dataclass(frozen=True, slots=True)
class PlacesChanged:
    """Nodes came or went: there is room for this many workers now."""

    places: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Take on nothing new, finish what is in work, then end."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, nothing else."""


Event = (
    StartAnswered
    | WorkerSaid
    | WorkerDied
    | ShardCommitted
    | CommitFailed
    | ShardLost
    | PlacesChanged
    | Drain
    | Tick
)


# --- actions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker under a number that was never used; answered unless it dies."""

    worker: int


@dataclass(frozen=True, slots=True)
class KillWorker:
    """End the worker without waiting; whatever it still says is not listened to.

    `reason` is one line where nobody but the supervisor knows it: the worker's silence.
    """

    worker: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Assign:
    """Give the worker a shard; answered by progress, then made, failed or died.

    It may still be writing another one.
    """

    worker: int
    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Commit:
    """Create the shard's commit if it is absent; answered by committed, failed or lost."""

    receipt: Receipt


class Outcome(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    DRAINED = "drained"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over: end all workers. `reason` is one line, empty for a finished run."""

    outcome: Outcome
    reason: str = ""


Action = StartWorker | KillWorker | Assign | Commit | Finish


# --- views ----------------------------------------------------------------------------------


class WorkerState(StrEnum):
    """What a worker does; `WRITING` is all that comes after a shard's last candidate."""

    STARTING = "starting"
    IDLE = "idle"
    MAKING = "making"
    WRITING = "writing"


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What a person wants to know of a worker.

    Attributes:
        worker: Its number.
        state: What it does.
        seconds: For how long: since it was started or left without a shard, or was given it.
        shard: The one it is at, or None.
        made: Candidates of that shard made so far.
    """

    worker: int
    state: WorkerState
    seconds: float
    shard: int | None = None
    made: int = 0


class WaitCause(StrEnum):
    """What a run waits for that is not its own to mend."""

    STORE = "store"
    NODES = "nodes"
    WORKERS = "workers"
    RAY = "ray"


@dataclass(frozen=True, slots=True)
class Wait:
    """Something that is waited for.

    Attributes:
        cause: What.
        text: Why, in one line.
        seconds: For how long already.
        left_s: For how long yet, before the run is given up.
    """

    cause: WaitCause
    text: str
    seconds: float
    left_s: float


@dataclass(frozen=True, slots=True)
class View:
    """What a person wants to know of a supervisor.

    Attributes:
        in_work: Candidates made so far in shards that are in work.
        workers: All that are alive, in the order of their numbers.
        waits: What is waited for, one of a cause.
    """

    in_work: int
    workers: tuple[WorkerView, ...]
    waits: tuple[Wait, ...] = ()
