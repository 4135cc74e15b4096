"""Segments beside the driver's loop: whatever becomes of them, the run goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from types import TracebackType

from mfsynth.formatting import one_line
from mfsynth.runs.watching.notices import Committed, Notice
from mfsynth.runs.watching.snapshot import Snapshot
from mfsynth.shards.compaction import compact
from mfsynth.shards.segments import SIZES
from mfsynth.storage.store import ObjectStore

# At the end of a run; what is not written then, the next start or `finalize` writes.
_PATIENCE_S = 10.0
_log = logging.getLogger(__name__)


class Compactor:
    """An observer that writes the segments that a run lacks: at its start, and as shards come.

    It has a thread of its own. A failure is logged, the first one only.

    Args:
        store: Of the run.
        committed: Shards that are committed; the caller may add to them.
        sizes: How many shards segments cover, as of `compact`.
    """

    def __init__(
        self, store: ObjectStore, committed: Collection[int], sizes: Sequence[int] = SIZES
    ) -> None:
        self._store = store
        self._committed = committed
        self._sizes = sizes
        self._tried: set[range] = set()
        self._failed = False
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="compact", daemon=True)

    def __enter__(self) -> Compactor:
        self._wake.set()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(_PATIENCE_S)

    def tell(self, notice: Notice) -> None:
        """Look for what to write where a commit completes a range."""
        match notice:
            case Committed(receipt):
                first = receipt.shard - receipt.shard % self._sizes[0]
                shards = range(first, first + self._sizes[0])
                if all(shard in self._committed for shard in shards):
                    self._wake.set()

    def show(self, snapshot: Snapshot) -> None:
        """Nothing to do with it."""

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self._compact()
            except Exception as error:  # of whatever kind: it is a cache that is not written
                self._tell(str(error))

    def _compact(self) -> None:
        # A copy: the driver goes on adding to it.
        committed = frozenset(self._committed)
        for shards, problem in compact(
            self._store, committed, sizes=self._sizes, without=self._tried
        ):
            self._tried.add(shards)
            if problem:
                self._tell(problem)
            if self._stop.is_set():
                return

    def _tell(self, problem: str) -> None:
        if not self._failed:
            self._failed = True
            _log.warning("%s", one_line(f"{self._store.url}: not compacted: {problem}"))
