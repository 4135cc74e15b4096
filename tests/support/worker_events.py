"""What workers say, as short to write as to read: one event a message."""

from __future__ import annotations

from mfsynth.runs.events import StartAnswered, WorkerSaid
from mfsynth.runs.protocol import Failed, FailureCause, Made, NotStarted, Progress, Started, Waiting
from mfsynth.shards.records import Receipt


class WorkerReady(StartAnswered):
    def __init__(self, worker: int) -> None:
        super().__init__(worker, Started())


class WorkerFailedToStart(StartAnswered):
    def __init__(self, worker: int, message: str) -> None:
        super().__init__(worker, NotStarted(message))


class WorkerCanNotStartYet(StartAnswered):
    def __init__(self, worker: int, message: str) -> None:
        super().__init__(worker, NotStarted(message, may_pass=True))


class ShardWaits(WorkerSaid):
    def __init__(self, worker: int, shard: int, message: str) -> None:
        super().__init__(worker, shard, Waiting(message))


class BatchStarted(WorkerSaid):
    def __init__(self, worker: int, shard: int, candidate: int | None, done: int) -> None:
        super().__init__(worker, shard, Progress(candidate, done))


class ShardMade(WorkerSaid):
    def __init__(self, worker: int, receipt: Receipt) -> None:
        super().__init__(worker, receipt.shard, Made(receipt))


class ShardFailed(WorkerSaid):
    def __init__(self, worker: int, shard: int, cause: FailureCause, message: str) -> None:
        super().__init__(worker, shard, Failed(cause, message))
