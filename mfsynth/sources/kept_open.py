"""Files that are slow to open stay open for what is read of them next."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Reader(Protocol):
    """Something that is open."""

    def close(self) -> None:
        """Close its file."""
        ...


K = TypeVar("K", bound=Hashable)
R = TypeVar("R", bound=Reader)


class KeptOpen(Generic[K, R]):
    """Readers by what they read: the last few of a process, for one thread at a time.

    Args:
        begin: Opens one.
        most: How many stay open.
    """

    def __init__(self, begin: Callable[[K], R], most: int) -> None:
        self._begin, self._most = begin, most
        self._lock = threading.Lock()
        # By process: a forked one would move its parent's places in the files.
        self._readers: defaultdict[int, OrderedDict[K, R]] = defaultdict(OrderedDict)

    @contextmanager
    def of(self, key: K) -> Iterator[R]:
        """The reader of something, which nobody else has inside of the `with`."""
        with self._lock:
            readers = self._readers[os.getpid()]
            found = readers.pop(key, None) or self._begin(key)
            readers[key] = found
            if len(readers) > self._most:
                readers.popitem(last=False)[1].close()
            yield found
