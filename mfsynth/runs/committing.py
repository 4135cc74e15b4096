"""Commits beside the driver's loop: round trips to the store hold nobody up.

The driver commits what it sees itself: a worker's word that its objects are in the store is
checked through the driver's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Set
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType

from mfsynth.errors import MfsynthError
from mfsynth.runs.events import CommitFailed, ShardCommitted, ShardLost
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, lacking_objects, read_commit, read_commits
from mfsynth.shards.records import Receipt
from mfsynth.shards.tombstones import condemned_keys
from mfsynth.storage.errors import StoreRefusedError
from mfsynth.storage.store import ObjectStore

# A commit is some eight round trips to the store, during which others are made: a thousand workers
# give more than ten a second, of half a second each on an object store.
COMMITS_AT_ONCE = 16

CommitEvent = ShardCommitted | CommitFailed | ShardLost


class Committer:
    """Commits receipts, several at a time. A context manager: leaving it waits for all of them.

    Args:
        store: Where to.
        known: Shards whose commits are known; the caller may add to them.
    """

    def __init__(self, store: ObjectStore, known: Set[int]) -> None:
        self._store = store
        self._known = known
        self._threads = ThreadPoolExecutor(COMMITS_AT_ONCE, "commit")
        self._under_way: set[Future[list[CommitEvent]]] = set()

    def __enter__(self) -> Committer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown()

    @property
    def is_busy(self) -> bool:
        """Whether a commit is under way, or what came of it was not taken."""
        return bool(self._under_way)

    def begin(self, receipt: Receipt) -> None:
        """Commit; `take` tells what came of it."""
        self._under_way.add(self._threads.submit(self._commit, receipt))

    def take(self) -> list[CommitEvent]:
        """What came of the commits that are through; each is told of once."""
        through = {future for future in self._under_way if future.done()}
        self._under_way -= through
        return [event for future in through for event in future.result()]

    def take_all(self) -> list[CommitEvent]:
        """The same, once all of them are through."""
        wait(self._under_way)
        return self.take()

    def _commit(self, receipt: Receipt) -> list[CommitEvent]:
        """Commit what is there; if another driver was faster, learn of all that it did.

        There is always an answer, and it is read from the shard's own key: a listing may lag.
        """
        try:
            if (problem := self._problem(receipt)) is not None:
                if not self._store.exists(layout.commit_key(receipt.shard)):
                    return [ShardLost(receipt.shard, problem)]
            elif commit(self._store, receipt):
                return [ShardCommitted(receipt)]
            stored = read_commit(self._store, receipt.shard)
        except MfsynthError as error:
            may_pass = not isinstance(error, StoreRefusedError)
            return [CommitFailed(receipt.shard, str(error), may_pass)]
        return [ShardCommitted(stored), *self._others(receipt.shard)]

    def _problem(self, receipt: Receipt) -> str | None:
        """Why what a worker has uploaded can't be committed, if so."""
        # In this order: gc removes what it has marked, and then the mark.
        condemned = condemned_keys(self._store)
        keys = (stored.key for stored in receipt.objects.values())
        if doomed := next((key for key in keys if key in condemned), None):
            return f"{self._store.url}/{doomed} is marked by gc"
        if lacking := lacking_objects(self._store, receipt):
            return (
                f"{lacking[0]}, though it was uploaded by {receipt.worker}: give an output that "
                "all nodes share, and let nothing else delete there"
            )
        return None

    def _others(self, shard: int) -> list[CommitEvent]:
        # A receipt that can't be read stops its own shard's commit, and only that.
        with contextlib.suppress(MfsynthError):
            others = read_commits(self._store, exclude=self._known).values()
            return [ShardCommitted(other) for other in others if other.shard != shard]
        return []
