"""Which of two recordings' frames belong together, by their times."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TypeVar

_Time = TypeVar("_Time", bound=float)


def paired(times: Sequence[_Time], others: Sequence[_Time], most: _Time) -> dict[int, int]:
    """Which of the others each time is paired with; the closest first, and each once.

    Args:
        times: Ascending or not.
        others: Ascending.
        most: The greatest difference.
    """
    near = sorted(
        (abs(others[j] - time), i, j)
        for i, time in enumerate(times)
        for j in range(bisect_left(others, time - most), bisect_right(others, time + most))
    )
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in near:
        if i not in found and j not in taken:
            found[i] = j
            taken.add(j)
    return found
