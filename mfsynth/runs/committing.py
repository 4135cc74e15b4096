"""Commits beside the driver's loop: a round trip to the store holds nobody up."""

from __future__ import annotations

from collections.abc import Set
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType

from mfsynth.errors import MfsynthError
from mfsynth.runs.events import CommitFailed, ShardCommitted
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.records import Receipt
from mfsynth.storage.store import ObjectStore

# A commit is a round trip to the store, during which other shards are made: a thousand workers
# give more than ten a second, of 0.1 s each on an object store.
COMMITS_AT_ONCE = 8

CommitEvent = ShardCommitted | CommitFailed


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
        """Commit, and learn what the store holds; if another driver was faster, all it did."""
        try:
            if commit(self._store, receipt):
                return [ShardCommitted(receipt)]
            others = read_commits(self._store, exclude=self._known)
            return [ShardCommitted(other) for other in others.values()]
        except MfsynthError as error:
            return [CommitFailed(receipt.shard, str(error))]
