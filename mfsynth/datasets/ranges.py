"""Byte ranges of stored objects, cheap enough to read one sample at a time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict

from mfsynth.storage.store import ObjectStore

# A run may have more shards than a process may have open files (often 1024).
_MAX_OPEN_FILES = 64


class RangeReader:
    """Reads ranges of runs' objects: `pread` on local files, ranged requests elsewhere.

    Safe for threads and forks, because `pread` uses no file position; pickles without its open
    files, which every process opens for itself when it first needs them.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[RangeReader], tuple[()]]:
        return RangeReader, ()

    def read(self, store: ObjectStore, key: str, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length` of an object; fewer if it ends before.

        Raises:
            FileNotFoundError: There is no such object.
            StoreError: A remote store failed.
        """
        root = store.local_root
        if root is None:
            return store.read_range(key, start, length)
        return self._file(str(root / key)).read(start, length)

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
