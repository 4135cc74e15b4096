"""Batches become records of a shard in other threads, while the model makes the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType

from mfsynth.runs.making import Batch
from mfsynth.shards.records import Reject
from mfsynth.shards.writer import EncodedReject, EncodedSample, ShardSpool

# At 512x512 all checks and the encoding of a pair take one core some 40 ms: two threads keep well
# ahead of a model that makes 20 pairs a second.
RECORDING_THREADS = 2


class RecordQueue:
    """Records of batches, added to a shard in the order in which the batches were put in.

    A context manager: leaving it ends its threads. After an error, what still waits is dropped, as
    it would be written into a spool that is thrown away.

    Args:
        record: Makes the record of a row of a batch: checks it, and encodes or rejects it.
        spool: The shard.
    """

    def __init__(
        self,
        record: Callable[[Batch, int], EncodedSample | EncodedReject | Reject],
        spool: ShardSpool,
    ) -> None:
        self._record = record
        self._spool = spool
        self._waiting: deque[Future[None]] = deque()
        self._recorders = ThreadPoolExecutor(RECORDING_THREADS, "recorder")
        # One thread keeps the order of the samples, and so the bytes of the tar.
        self._writer = ThreadPoolExecutor(1, "writer")

    def __enter__(self) -> RecordQueue:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.shutdown(cancel_futures=True)
        self._recorders.shutdown(cancel_futures=True)

    def put(self, batch: Batch) -> None:
        """Take a batch in; returns at once."""
        self._waiting.append(self._writer.submit(self._add, batch))

    def wait(self, most: int) -> None:
        """Wait until at most so many batches aren't in the shard yet.

        Raises:
            Exception: Whatever was raised where the record of a batch was made.
        """
        while len(self._waiting) > most:
            self._waiting.popleft().result()

    def _add(self, batch: Batch) -> None:
        rows = range(len(batch.candidates))
        for record in self._recorders.map(partial(self._record, batch), rows):
            self._spool.add(record)
