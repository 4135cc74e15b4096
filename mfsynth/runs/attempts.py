"""What failed before a shard was made, for its receipt."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from mfsynth.runs.events import Action, Assign, Event, KillWorker, ShardCommitted, WorkerSaid
from mfsynth.runs.protocol import Failed, Made
from mfsynth.runs.watching.notices import failure_in


class Attempts:
    """Failures by shard and cause, of shards that this driver gave out and nobody has committed."""

    def __init__(self) -> None:
        self._at_work: defaultdict[int, set[int]] = defaultdict(set)
        self._failures: defaultdict[int, Counter[str]] = defaultdict(Counter)

    def failed(self, shard: int) -> Mapping[str, int]:
        """How often something of a shard failed so far, by cause."""
        return dict(self._failures.get(shard, {}))

    def note(self, happened: Event | Action) -> None:
        """Take in what happens, in order."""
        if (failure := failure_in(happened)) is not None:
            shards: set[int] = set()
            if failure.shard is not None:
                shards = {failure.shard}
            elif failure.worker is not None:
                shards = self._at_work.pop(failure.worker, set())
            for shard in shards:
                self._failures[shard][failure.cause.value] += 1
        match happened:
            case Assign(worker, assignment):
                self._at_work[worker].add(assignment.shard)
            case WorkerSaid(worker, shard, Made() | Failed()):
                self._at_work[worker].discard(shard)
            case KillWorker(worker):
                self._at_work.pop(worker, None)
            case ShardCommitted(receipt):
                self._failures.pop(receipt.shard, None)
