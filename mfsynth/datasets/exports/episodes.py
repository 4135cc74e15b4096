"""Which pairs of an export are frames of one recording: where, when and next to which they are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfsynth.shards.layout import run_of

COLUMNS = ("episode", "frame", "copy", "timestamp")
# What formats write of a time.
_MICROSECONDS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Episodes:
    """Pairs by stretches of frames without a gap; a pair that is no frame is one by itself.

    Readers that step from row to row take what follows a frame for the next moment. So an episode
    of which frames are missing comes as several stretches.

    Attributes:
        order: (N,) numbers of the pairs, stretch by stretch, each in the order of its frames.
        starts: (E + 1,) where each stretch begins in `order`, and N.
        steps: (E,) of each stretch, between the numbers of two frames that follow each other: the
            usual one of its run, of which each may take another share of its source's frames.
        seconds: Between two such frames, by their times: of each run in which these have some.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    steps: NDArray[np.int64]
    seconds: tuple[float, ...]

    @classmethod
    def of(cls, index: pa.Table) -> Episodes:
        """Those of the rows of an index."""
        count = len(index)
        if "episode" not in index.column_names:
            return cls(np.arange(count), np.arange(count + 1), np.ones(count, np.int64), ())
        runs, recordings, frames, times = _columns(index)
        # Recordings as they are first met, then pairs that are no frames; of two pairs of one
        # frame, in their order.
        order = np.lexsort((np.arange(count), frames, recordings))
        runs, recordings = runs[order], recordings[order]
        frames, times = frames[order], times[order]
        same, steps = recordings[1:] == recordings[:-1], np.diff(frames)
        usual = _usual_steps(runs[1:], np.where(same, steps, 0))
        follows = same & (steps == usual[runs[1:]])
        starts = np.concatenate([[0], 1 + np.flatnonzero(~follows), [count]])
        between = np.where(follows, np.diff(times), np.nan)
        known = np.isfinite(between) & (between > 0)
        seconds = [
            float(np.median(between[known & (runs[1:] == run)]))
            for run in np.unique(runs[1:][known])
        ]
        return cls(order, starts, usual[runs[starts[:-1]]], tuple(seconds))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def episode_of(self, place: int) -> tuple[int, int]:
        """Which stretch the pair at a place of `order` is in, and its number there."""
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        return number, place - int(self.starts[number])


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """Pairs by their recordings, for formats in which all of a folder or file is of one place.

    Those that are no frames are a scene together. The pairs are in the order of `Episodes`.

    Attributes:
        numbers: (N,) of each pair's scene, in the order in which they are first met.
        places: (N,) how many pairs of its scene come before.
        seconds: (N,) time in its scene: the frames' own if all of them have one and no two are
            equal, else a second from pair to pair.
        since: (N,) the same from the first of its scene on.
    """

    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    seconds: NDArray[np.float64]
    since: NDArray[np.float64]

    @classmethod
    def of(cls, index: pa.Table, cameras: NDArray[np.int64] | None = None) -> Scenes:
        """Those of the rows of an index.

        Args:
            index: The rows.
            cameras: (N,) of what each was seen with, where a scene has one camera.
        """
        keys: list[Any] = [None] * len(index)
        times = np.full(len(index), np.nan)
        if "episode" in index.column_names:
            names = [name for name in ("sample_id", *COLUMNS) if name in index.column_names]
            rows = index.select(names).to_pylist()
            keys = [*map(recording_of, rows)]
            if "timestamp" in names:
                times = index.column("timestamp").to_numpy().astype(np.float64)
        if cameras is not None:
            keys = [*zip(keys, cameras.tolist(), strict=True)]
        known: dict[Any, int] = {}
        numbers = np.array([known.setdefault(key, len(known)) for key in keys], np.int64)
        order = np.argsort(numbers, kind="stable")
        starts = np.searchsorted(numbers[order], np.arange(len(known) + 1))
        places, seconds, since = np.empty_like(numbers), np.empty(len(keys)), np.empty(len(keys))
        for start, end in pairwise(starts.tolist()):
            of_scene = order[start:end]
            places[of_scene] = np.arange(end - start)
            own = np.round(times[of_scene], _MICROSECONDS)
            # False of NaN, too.
            rising = np.isfinite(own[0]) and bool(np.all(np.diff(own) > 0))
            seconds[of_scene] = own if rising else places[of_scene]
            since[of_scene] = seconds[of_scene] - seconds[of_scene[0]]
        return cls(numbers, places, seconds, since)

    def stretches(self, most: int) -> Sequence[range]:
        """Pairs of one scene that follow each other, so many at most, in order."""
        return _stretches(self, most)

    def stretch_of(self, number: int, most: int) -> tuple[int, int]:
        """Which of the stretches a pair is in, and its number there."""
        found = self.stretches(most)
        stretch = bisect_right(found, number, key=lambda each: each.start) - 1
        return stretch, number - found[stretch].start


# Asked for with each pair, and the same for all of an export.
@lru_cache(maxsize=1)
def _stretches(scenes: Scenes, most: int) -> tuple[range, ...]:
    ends = [0, *(1 + np.flatnonzero(np.diff(scenes.numbers))).tolist(), len(scenes.numbers)]
    return tuple(
        range(begin, min(begin + most, end))
        for start, end in pairwise(ends)
        for begin in range(start, end, most)
    )


def recording_of(row: Mapping[str, Any]) -> tuple[str, str, int] | None:
    """Run, episode and copy of a row of an index; None of a pair that is no frame."""
    if row.get("episode") is None or row.get("frame") is None:
        return None
    return run_of(row["sample_id"]), row["episode"], row.get("copy") or 0


def _usual_steps(runs: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most common positive step of each run by its number, the least of several; 1 without."""
    usual = np.ones(int(runs.max(initial=0)) + 1, np.int64)
    for run in np.unique(runs[steps > 0]):
        values, counts = np.unique(steps[(runs == run) & (steps > 0)], return_counts=True)
        usual[run] = values[np.argmax(counts)]
    return usual


def _columns(
    index: pa.Table,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Of each row the numbers of its run and its recording, its frame, and its time."""
    names = [name for name in ("sample_id", *COLUMNS) if name in index.column_names]
    known: dict[Any, int] = {}
    known_runs: dict[str, int] = {}
    runs, recordings, frames, times = [], [], [], []
    for number, row in enumerate(index.select(names).to_pylist()):
        recording = recording_of(row)
        runs.append(known_runs.setdefault(run_of(row["sample_id"]), len(known_runs)))
        # A pair that is no frame is one by itself, after all recordings.
        alone = recording is None
        recordings.append(len(index) + number if alone else known.setdefault(recording, len(known)))
        frames.append(0 if recording is None else row["frame"])
        time = row.get("timestamp")
        times.append(np.nan if time is None else time)
    return (
        np.array(runs, np.int64),
        np.array(recordings, np.int64),
        np.array(frames, np.int64),
        np.array(times, np.float64),
    )
