"""Byte ranges of stored objects, cheap enough to read one sample at a time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import shutil
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mfsynth.errors import MfsynthError
from mfsynth.shards.records import StoredObject
from mfsynth.storage.errors import StoreFullError
from mfsynth.storage.local_cache import LocalCache
from mfsynth.storage.store import ObjectStore

# A run may have more shards than a process may have open files (often 1024).
_MAX_OPEN_FILES = 64
# A cache without room is not looked through again for each pair.
_FULL_S = 60.0
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
        cache: Keeps whole objects of remote stores; ranges of those that it has no room for, or
            None of all, are read from there each time.
    """

    def __init__(self, cache: LocalCache | None = None) -> None:
        self._cache = cache
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()
        # One for each object that is being opened: it is fetched once, and others needn't wait.
        self._opening: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._full_until = -math.inf

    def __reduce__(self) -> tuple[type[RangeReader], tuple[LocalCache | None]]:
        return RangeReader, (self._cache,)

    def read(
        self, store: ObjectStore, stored: StoredObject, ranges: Sequence[Range]
    ) -> Iterable[bytes | memoryview]:
        """Ranges of an object, each with fewer bytes if the object ends before.

        Of a file each is read when it is asked for, into the memory of the one before it, which is
        still in the processor's caches. Neighbours are read at once from a remote store.

        Raises:
            FileNotFoundError: There is no such object.
            StoreError: A remote store failed.
            MfsynthError: A remote object is not the one that its receipt names, as it is kept.
            OSError: It can't be read.
        """
        root = store.local_root
        if root is not None:
            path = str(root / stored.key)
            file = self._file(path, lambda: os.open(path, os.O_RDONLY))
            assert file is not None
            return file.read(ranges)
        if (cache := self._cache) is not None:
            kept = self._file(_name(stored), lambda: self._kept(cache, store, stored))
            if kept is not None:
                return kept.read(ranges)
        found: dict[Range, bytes] = {}
        for group in _coalesced(ranges):
            first = group[0][0]
            end = max(start + length for start, length in group)
            data = store.read_range(stored.key, first, end - first)
            for start, length in group:
                found[start, length] = data[start - first : start - first + length]
        return [found[each] for each in ranges]

    def forget(self, stored: StoredObject) -> None:
        """Let go of what is kept of an object, which is damaged."""
        if self._cache is not None:
            self._cache.forget(_name(stored))
            with self._lock:
                self._files.pop(_name(stored), None)

    def _kept(self, cache: LocalCache, store: ObjectStore, stored: StoredObject) -> int | None:
        if (found := cache.find(_name(stored))) is not None or time.monotonic() < self._full_until:
            return found

        def fetch(path: Path) -> None:
            with store.local_copy(stored.key) as copy:
                with copy.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest != stored.sha256:
                    raise MfsynthError(
                        f"{store.url}/{stored.key}: its bytes changed (SHA-256 differs); `mfsynth "
                        "verify` says what else is damaged"
                    )
                shutil.copyfile(copy, path)

        try:
            kept = cache.keep(_name(stored), stored.size, fetch)
        except (OSError, StoreFullError) as error:
            # Not the store: the disk is full that the cache is on, or temporary files.
            if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            kept = None
        if kept is None:
            self._full_until = time.monotonic() + _FULL_S
        return kept

    def _file(self, name: str, opened: Callable[[], int | None]) -> _OpenFile | None:
        if (file := self._known(name)) is not None:
            return file
        with self._lock:
            turn = self._opening[name]
        with turn:
            try:
                file = self._known(name)
                if file is None and (descriptor := opened()) is not None:
                    file = _OpenFile(descriptor)
                    with self._lock:
                        self._files[name] = file
                        # The file is evicted, not closed: a thread may still be reading from it.
                        if len(self._files) > _MAX_OPEN_FILES:
                            self._files.popitem(last=False)
            finally:
                with self._lock:
                    self._opening.pop(name, None)
        return file

    def _known(self, name: str) -> _OpenFile | None:
        with self._lock:
            file = self._files.get(name)
            if file is not None:
                self._files.move_to_end(name)
            return file


class _OpenFile:
    """A descriptor that is closed with its last user."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, ranges: Sequence[Range]) -> Iterator[memoryview]:
        # A method, so that `self` lives until the last is read: a descriptor that was closed
        # meanwhile could by then be another file's.
        memory = memoryview(bytearray(max((length for _, length in ranges), default=0)))
        for start, length in ranges:
            room = memory[:length]
            yield room[: os.preadv(self._descriptor, [room], start)]

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)


def _name(stored: StoredObject) -> str:
    return f"{stored.sha256}{Path(stored.key).suffix}"


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
