"""Byte ranges of stored objects, cheap enough to read one sample at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from mfsynth.errors import MfsynthError
from mfsynth.shards.records import StoredObject
from mfsynth.storage import atomic
from mfsynth.storage.local_cache import LocalCache
from mfsynth.storage.store import ObjectStore

# A run may have more shards than a process may have open files (often 1024).
_MAX_OPEN_FILES = 64
# Of a remote store: what lies between two ranges costs less than another request.
_MAX_GAP = 256 * 2**10
_MAX_REQUEST = 32 * 2**20

Range = tuple[int, int]
"""First byte and number of bytes."""


class RangeReader:
    """Reads ranges of runs' objects: `pread` on local files, ranged requests elsewhere.

    Safe for threads and forks, because `pread` uses no file position; pickles without its open
    files, which every process opens for itself when it first needs them.

    Args:
        cache: Keeps whole objects of remote stores; None to read the ranges from there each time.
    """

    def __init__(self, cache: LocalCache | None = None) -> None:
        self._cache = cache
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[RangeReader], tuple[LocalCache | None]]:
        return RangeReader, (self._cache,)

    def read(
        self, store: ObjectStore, stored: StoredObject, ranges: Sequence[Range]
    ) -> list[bytes]:
        """Ranges of an object, each with fewer bytes if the object ends before.

        Neighbours are read at once from a remote store.

        Raises:
            FileNotFoundError: There is no such object.
            StoreError: A remote store failed.
            MfsynthError: A remote object is not the one that its receipt names, as it is kept.
            OSError: It can't be read.
        """
        root = store.local_root
        if root is not None:
            file = self._file(str(root / stored.key))
            return [file.read(start, length) for start, length in ranges]
        if self._cache is not None:
            file = self._file(str(self._kept(self._cache, store, stored)))
            return [file.read(start, length) for start, length in ranges]
        found: dict[Range, bytes] = {}
        for group in _coalesced(ranges):
            first = group[0][0]
            end = max(start + length for start, length in group)
            data = store.read_range(stored.key, first, end - first)
            for start, length in group:
                found[start, length] = data[start - first : start - first + length]
        return [found[each] for each in ranges]

    def _kept(self, cache: LocalCache, store: ObjectStore, stored: StoredObject) -> Path:
        def fetch(path: Path) -> None:
            with store.local_copy(stored.key) as copy:
                with copy.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest != stored.sha256:
                    raise MfsynthError(
                        f"{store.url}/{stored.key}: its bytes changed (SHA-256 differs); `mfsynth "
                        "verify` says what else is damaged"
                    )
                atomic.copy(copy, path)

        return cache.file(f"{stored.sha256}{Path(stored.key).suffix}", fetch)

    def _file(self, path: str) -> _OpenFile:
        with self._lock:
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = _OpenFile(path)
                # The file is evicted, not closed: a thread may still be reading from it.
                if len(self._files) > _MAX_OPEN_FILES:
                    self._files.popitem(last=False)
            self._files.move_to_end(path)
            return file


class _OpenFile:
    """A descriptor that is closed with its last user."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def read(self, start: int, length: int) -> bytes:
        # A method, so that `self` lives until pread is back: a descriptor that was closed
        # meanwhile could by then be another file's.
        return os.pread(self._descriptor, length, start)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)


def _coalesced(ranges: Sequence[Range]) -> list[list[Range]]:
    groups: list[list[Range]] = []
    end = 0
    for start, length in sorted({*ranges}):
        near = groups and start - end <= _MAX_GAP
        if near and start + length - groups[-1][0][0] <= _MAX_REQUEST:
            groups[-1].append((start, length))
        else:
            groups.append([(start, length)])
            end = 0
        end = max(end, start + length)
    return groups
