"""Names in a store for what probes write; nothing of it stays, also when they are interrupted.

They end as temporaries do, so that no reader takes them for data, and `gc` removes what a kill
leaves.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from mfsynth.errors import MfsynthError
from mfsynth.runs.doctor.findings import Finding, in_time, ok
from mfsynth.storage.store import ObjectStore, probe_key

# For probes under way to tidy up by themselves, and for what is left to be removed.
_PATIENCE_S = 5.0


class Scratch:
    """Keys to write to. A context manager: leaving it removes what is left, and made folders.

    Args:
        store: Whose top level they are at.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._changed = threading.Condition()
        self._in_use = 0
        self._closed = False
        self._keys: set[str] = set()
        root = store.local_root
        above = [] if root is None else [root, *root.parents]
        self._made = [folder for folder in above if not _is_there(folder)]

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._in_use, deadline - time.monotonic())
        in_time(self._remove, _PATIENCE_S)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """For what writes under names of its own and removes it; is waited for.

        Raises:
            MfsynthError: It is over.
        """
        with self._changed:
            if self._closed:
                raise MfsynthError("interrupted")
            self._in_use += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_use -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def key(self) -> Iterator[str]:
        """A key that nothing is at; what is written there is removed on leaving.

        Raises:
            MfsynthError: It is over, or the store can't be written.
        """
        with self.in_use():
            self._keys.add(key := probe_key())
            try:
                yield key
            finally:
                self.store.delete(key)
                self._keys.discard(key)

    def _remove(self) -> Finding:
        for key in [*self._keys]:
            with contextlib.suppress(MfsynthError):
                self.store.delete(key)
        for folder in self._made:
            # Not of somebody who has put something there meanwhile.
            with contextlib.suppress(OSError):
                folder.rmdir()
        return ok("")


def _is_there(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError:
        return True
