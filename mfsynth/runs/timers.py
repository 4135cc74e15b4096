"""Alarms by key, of which the earliest is always at hand."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


# Too few stale alarms to be worth a thought.
ROOM = 16


class Timers(Generic[Key]):
    """At most one alarm a key; setting, cancelling and asking take logarithmic time."""

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}
        # Alarms that were moved or cancelled stay in the heap until they come to its top, or until
        # they are the most of it.
        self._heap: list[tuple[float, int, Key]] = []
        self._order = 0  # keys need not be comparable

    def set(self, key: Key, at: float) -> None:
        """Set the key's alarm, or move it."""
        self._at[key] = at
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, key))
        if len(self._heap) > 2 * len(self._at) + ROOM:
            self._heap = [entry for entry in self._heap if self._is_set(entry)]
            heapq.heapify(self._heap)

    def cancel(self, key: Key) -> None:
        """Take the key's alarm away, if it has one."""
        self._at.pop(key, None)

    def earliest(self) -> float | None:
        """When the next alarm goes off; None if there is none."""
        while self._heap and not self._is_set(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Key]:
        """Take out the keys whose alarms are due, earliest first."""
        while (at := self.earliest()) is not None and at <= now:
            key = heapq.heappop(self._heap)[2]
            del self._at[key]
            yield key

    def _is_set(self, entry: tuple[float, int, Key]) -> bool:
        return self._at.get(entry[2]) == entry[0]
