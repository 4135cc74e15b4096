"""Which pairs of an export are frames of one recording, for formats that go from frame to frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

COLUMNS = ("episode", "frame", "copy", "timestamp")


@dataclass(frozen=True, slots=True, eq=False)
class Episodes:
    """Pairs by stretches of frames without a gap; a pair that is no frame is one by itself.

    Readers that step from row to row take what follows a frame for the next moment. So an episode
    of which frames are missing comes as several stretches.

    Attributes:
        order: (N,) numbers of the pairs, stretch by stretch, each in the order of its frames.
        starts: (E + 1,) where each stretch begins in `order`, and N.
        step: Between the numbers of two frames that follow each other.
        seconds: Between these, by their times; None where nobody says.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    step: int
    seconds: float | None

    @classmethod
    def of(cls, index: pa.Table) -> Episodes:
        """Those of the rows of an index."""
        count = len(index)
        if "episode" not in index.column_names:
            return cls(np.arange(count), np.arange(count + 1), 1, None)
        recordings, frames, times = _columns(index)
        # Recordings as they are first met; of two pairs of one frame, in their order.
        order = np.lexsort((np.arange(count), frames, recordings))
        recordings, frames, times = recordings[order], frames[order], times[order]
        same, steps = recordings[1:] == recordings[:-1], np.diff(frames)
        usual = steps[same & (steps > 0)]
        step = 1
        if usual.size:
            values, counts = np.unique(usual, return_counts=True)
            step = int(values[np.argmax(counts)])
        follows = same & (steps == step)
        between = np.diff(times)[follows]
        between = between[np.isfinite(between) & (between > 0)]
        return cls(
            order,
            np.concatenate([[0], 1 + np.flatnonzero(~follows), [count]]),
            step,
            float(np.median(between)) if between.size else None,
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def episode_of(self, place: int) -> tuple[int, int]:
        """Which stretch the pair at a place of `order` is in, and its number there."""
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        return number, place - int(self.starts[number])


def recording_of(row: Mapping[str, Any]) -> tuple[str, str, int] | None:
    """Run, episode and copy of a row of an index; None of a pair that is no frame."""
    if row.get("episode") is None or row.get("frame") is None:
        return None
    return row["sample_id"].rpartition("-")[0], row["episode"], row.get("copy") or 0


def _columns(
    index: pa.Table,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Of each row the number of its recording, its frame, and its time."""
    names = [name for name in ("sample_id", *COLUMNS) if name in index.column_names]
    known: dict[Any, int] = {}
    recordings, frames, times = [], [], []
    for number, row in enumerate(index.select(names).to_pylist()):
        recording = recording_of(row)
        recordings.append(known.setdefault(number if recording is None else recording, len(known)))
        frames.append(0 if recording is None else row["frame"])
        time = row.get("timestamp")
        times.append(np.nan if time is None else time)
    return np.array(recordings, np.int64), np.array(frames, np.int64), np.array(times, np.float64)
