"""Byte ranges of stored objects, cheap enough to read one sample at a time."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import stat
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mfsynth.datasets.forks import lock_anew_in_forks
from mfsynth.errors import MfsynthError
from mfsynth.formatting import one_line
from mfsynth.shards.records import StoredObject
from mfsynth.storage.digests import sha256_of_file
from mfsynth.storage.errors import StoreFullError
from mfsynth.storage.local_cache import LocalCache
from mfsynth.storage.store import ObjectStore

_log = logging.getLogger(__name__)

# A run may have more shards than a process may have open files (often 1024).
_MAX_OPEN_FILES = 64
# A cache that is of no use is not tried again for each pair.
_IDLE_S = 60.0
# Of a remote store: what lies between two ranges costs less than another request.
_MAX_GAP = 256 * 2**10
_MAX_REQUEST = 32 * 2**20

Range = tuple[int, int]
"""First byte and number of bytes."""


class RangeReader:
    """Reads ranges of runs' objects: `pread` on local files, ranged requests elsewhere.

    Safe for threads and forks, because `pread` uses no file position, and a fork has locks of its
    own; pickles without its open files, which every process opens for itself when it first needs
    them.

    Args:
        cache: Keeps whole objects of remote stores; ranges of those that it has no room for, or
            can't read or write, or None of all, are read from there each time.
    """

    def __init__(self, cache: LocalCache | None = None) -> None:
        self._cache = cache
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._idle_until = -math.inf
        self._has_told = False
        lock_anew_in_forks(self)

    def make_locks(self) -> None:
        """See `mfsynth.datasets.forks`."""
        self._lock = threading.Lock()
        # One for each object that is being opened: it is fetched once, and others needn't wait.
        self._opening: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

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
            return self._of_file(str(root / stored.key), ranges)
        if (cache := self._cache) is not None:
            kept = self._file(_name(stored), lambda: self._kept(cache, store, stored))
            if kept is not None:
                return self._of_kept(cache, kept, store, stored, ranges)
        return _requested(store, stored, ranges)

    def forget(self, stored: StoredObject) -> None:
        """Let go of what is kept of an object, which is damaged."""
        if self._cache is not None:
            self._drop(_name(stored))
            try:
                self._cache.forget(_name(stored))
            except OSError as error:
                self._do_without(self._cache, error)

    def _of_file(self, path: str, ranges: Sequence[Range]) -> Iterator[memoryview]:
        done = 0
        try:
            for data in self._opened(path).read(ranges):
                yield data
                done += 1
        except FileNotFoundError:
            raise
        except OSError:
            # A descriptor may outlive what it is of: a mount that was made anew, a server's file.
            self._drop(path)
            yield from self._opened(path).read(ranges[done:])

    def _opened(self, path: str) -> _OpenFile:
        file = self._file(path, lambda: _descriptor(path))
        assert file is not None
        return file

    def _of_kept(
        self,
        cache: LocalCache,
        kept: _OpenFile,
        store: ObjectStore,
        stored: StoredObject,
        ranges: Sequence[Range],
    ) -> Iterator[bytes | memoryview]:
        done = 0
        try:
            for data in kept.read(ranges):
                yield data
                done += 1
        except OSError as error:
            self.forget(stored)
            self._do_without(cache, error)
            yield from _requested(store, stored, ranges[done:])

    def _kept(self, cache: LocalCache, store: ObjectStore, stored: StoredObject) -> int | None:
        def fetch(path: Path) -> None:
            with store.local_copy(stored.key) as copy:
                if sha256_of_file(copy) != stored.sha256:
                    raise MfsynthError(
                        f"{store.url}/{stored.key}: its bytes changed (SHA-256 differs); `mfsynth "
                        "verify` says what else is damaged"
                    )
                shutil.copyfile(copy, path)

        try:
            kept = cache.find(_name(stored))
            if kept is None and time.monotonic() >= self._idle_until:
                kept = cache.keep(_name(stored), stored.size, fetch)
                if kept is None:
                    self._idle_until = time.monotonic() + _IDLE_S
            return kept
        except (OSError, StoreFullError) as error:
            # What the store itself says comes without a number: then the object is missing.
            if isinstance(error, OSError) and error.errno is None:
                raise
            self._do_without(cache, error)
            return None

    def _do_without(self, cache: LocalCache, error: OSError | StoreFullError) -> None:
        """Not the store: the cache's disk can't be used, or has no room, or that of temporaries."""
        self._idle_until = time.monotonic() + _IDLE_S
        if not self._has_told:
            self._has_told = True
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            _log.warning(
                "%s",
                one_line(f"{cache.folder}: no cache for now, the store is read instead: {reason}"),
            )

    def _drop(self, name: str) -> None:
        with self._lock:
            self._files.pop(name, None)

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
        self._turn = threading.Lock()

    def read(self, ranges: Sequence[Range]) -> Iterator[memoryview]:
        # A method, so that `self` lives until the last is read: a descriptor that was closed
        # meanwhile could by then be another file's.
        memory = memoryview(bytearray(max((length for _, length in ranges), default=0)))
        for start, length in ranges:
            room = memory[:length]
            yield room[: self._read_into(room, start)]

    def _read_into(self, room: memoryview, start: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [room], start)
        # Where files have only a position that all threads share, which is where nothing forks.
        with self._turn:
            os.lseek(self._descriptor, start, os.SEEK_SET)
            data = os.read(self._descriptor, len(room))
        room[: len(data)] = data
        return len(data)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)


def _descriptor(path: str) -> int:
    """Of a file; whoever opens a pipe waits for somebody who writes to it."""
    kind = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_RDONLY | kind)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise MfsynthError(f"{path} is no file; remove it, and copy the run's own there again")


def _requested(store: ObjectStore, stored: StoredObject, ranges: Sequence[Range]) -> list[bytes]:
    """From the store itself, neighbours at once."""
    found: dict[Range, bytes] = {}
    for group in _coalesced(ranges):
        first = group[0][0]
        end = max(start + length for start, length in group)
        data = store.read_range(stored.key, first, end - first)
        for start, length in group:
            found[start, length] = data[start - first : start - first + length]
    return [found[each] for each in ranges]


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
