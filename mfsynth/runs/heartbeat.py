"""A driver's sign of life in the store, for `gc`, and what it has counted, for whoever reads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType

from mfsynth.errors import MfsynthError
from mfsynth.shards.drivers import HEARTBEAT_S, beat, heartbeats, host_of, note_progress
from mfsynth.shards.layout import new_heartbeat
from mfsynth.storage.store import ObjectStore

# How soon the first commit is written down: from then on a run without receipts is a damaged one.
_FIRST_COMMIT_S = 1.0


class Heartbeat:
    """Beats while a driver works, on a thread of its own. A context manager.

    Entering it writes the first one, leaving it removes it. A store that fails in between is no
    matter: a heartbeat that is missed says less than there is, never more.

    Args:
        store: Of the run.
        committed: Says how many shards are committed, as far as the driver knows.

    Raises:
        MfsynthError: On entering: the store can't be written.
    """

    def __init__(self, store: ObjectStore, committed: Callable[[], int]) -> None:
        self._store = store
        self._committed = committed
        self._key = new_heartbeat()
        self._noted = -1
        self._seen: dict[str, datetime | None] | None = None
        self._others: dict[str, str] = {}
        self._told: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._beat()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(HEARTBEAT_S)
        # The end of a driver must not wait for, or hide, anything: gc removes what is left.
        with contextlib.suppress(MfsynthError):
            self._note()
            self._store.delete(self._key)

    def other_drivers(self) -> list[str]:
        """Hosts of drivers that were seen to work on the same run; each is told of once."""
        new = [key for key in [*self._others] if key not in self._told]
        self._told.update(new)
        return [self._others[key] for key in new]

    def _run(self) -> None:
        due = time.monotonic() + HEARTBEAT_S
        while not self._stop.wait(_FIRST_COMMIT_S):
            with contextlib.suppress(MfsynthError):
                if time.monotonic() >= due:
                    due = time.monotonic() + HEARTBEAT_S
                    self._beat()
                elif self._noted == 0 and self._committed():
                    self._note()

    def _beat(self) -> None:
        beat(self._store, self._key)
        self._note()
        with contextlib.suppress(MfsynthError):
            self._look_around()

    def _look_around(self) -> None:
        # One that was killed left a heartbeat, too: only what has changed since is alive.
        found = heartbeats(self._store)
        for key, last in found.items():
            changed = self._seen is not None and last != self._seen.get(key)
            if changed and key != self._key and key not in self._others:
                self._others[key] = host_of(self._store, key)
        self._seen = found

    def _note(self) -> None:
        if (committed := self._committed()) > self._noted:
            note_progress(self._store, committed)
            self._noted = committed
