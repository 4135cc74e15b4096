"""What the tables of a LeRobot data set say: frames, where their videos are, tasks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfsynth.config.documents import decode_utf8, strict_json
from mfsynth.config.suggestions import did_you_mean
from mfsynth.errors import MfsynthError
from mfsynth.shards.frame_columns import FrameColumn, encode_frame
from mfsynth.sources.guards import decoding
from mfsynth.sources.table_files import TableFile, cell_of
from mfsynth.sources.tolerance import Skipped, Tolerance
from mfsynth.sources.trees import Tree

INFO = "meta/info.json"
_COUNTERS = ("episode_index", "frame_index", "task_index", "timestamp")
_INDEX = "index"
_FIELD = re.compile(r"\{(\w+)(?::0(\d)d)?\}", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The rows that are items, in the order of episodes and frames.

    Attributes:
        files: Of rows.
        rows: (N, 3) of each item the file, the part of it and the row in that.
        episodes: (N,) numbers.
        numbers: (N,) of the frames in their episodes.
        tasks: (N,) numbers.
        times: (N,) seconds from the beginning of the episode.
    """

    files: tuple[TableFile, ...]
    rows: NDArray[np.int64]
    episodes: NDArray[np.int64]
    numbers: NDArray[np.int64]
    tasks: NDArray[np.int64]
    times: NDArray[np.float64]

    @classmethod
    def of(
        cls, tree: Tree, every: int, cells: Sequence[str], tolerance: Tolerance
    ) -> tuple[Frames, list[Skipped]]:
        """All that can be read, and the tables that can't.

        Args:
            tree: The data set.
            every: Of the frames of an episode, each n-th.
            cells: Features that are in the rows.
            tolerance: How many tables may be left out.
        """

        def read(file: TableFile) -> tuple[list[int], list[NDArray[Any]]]:
            _require(file, (*_COUNTERS, *cells))
            table = file.columns(_COUNTERS)
            return file.counts(), [table[name].to_numpy() for name in _COUNTERS]

        files = [TableFile(tree, name) for name in sorted(tree.glob("data/**/*.parquet"))]
        if not files:
            raise MfsynthError(f"{tree.told('data')}: no rows of frames; restore it")
        readable, skipped = tolerance.readable(files, read, lambda file: file.told)
        rows = [
            np.stack([np.full(count, number), np.full(count, part), np.arange(count)], axis=1)
            for number, (_, (counts, _)) in enumerate(readable)
            for part, count in enumerate(counts)
        ]
        columns = zip(*(columns for _, (_, columns) in readable), strict=True)
        episodes, numbers, tasks, times = (np.concatenate(column) for column in columns)
        order = np.lexsort((numbers, episodes))
        order = order[numbers[order] % every == 0]
        if not order.size:
            raise MfsynthError(f"{tree.told('data')}: no frames in it; restore it")
        found = cls(
            tuple(file for file, _ in readable),
            np.concatenate(rows)[order],
            episodes[order],
            numbers[order],
            tasks[order],
            times[order].astype(np.float64),
        )
        return found, skipped

    def within(
        self, known: Collection[int], tree: Tree, tolerance: Tolerance
    ) -> tuple[Frames, list[Skipped]]:
        """Those of episodes of which it is known where their videos are, and the other episodes.

        Raises:
            MfsynthError: There are more others than may be left out, or no known ones.
        """
        episodes = np.unique(self.episodes).tolist()
        skipped = [
            Skipped(
                f"episode {number}",
                f"{tree.told('meta/episodes')}: nothing of episode {number}; restore it",
            )
            for number in episodes
            if number not in known
        ]
        if not skipped:
            return self, []
        if len(skipped) == len(episodes):
            raise MfsynthError(skipped[0].reason)
        tolerance.require(skipped, len(episodes), "episodes")
        kept = np.isin(self.episodes, [*known])
        chosen = {
            name: getattr(self, name)[kept]
            for name in ("rows", "episodes", "numbers", "tasks", "times")
        }
        return replace(self, **chosen), skipped

    def cell(self, index: int, key: str, name: str) -> Any:
        """What a frame has in a column."""
        return cell_of(self.cells(index, (key,))[key], f"{name}: {key}")

    def cells(self, index: int, keys: tuple[str, ...]) -> Mapping[str, pa.Scalar]:
        """Cells of a frame, read together."""
        file, part, row = self.rows[index].tolist()
        return self.files[file].row(part, row, keys)


def read_info(tree: Tree) -> dict[str, Any]:
    """What `INFO` says.

    Raises:
        MfsynthError: It isn't there, or is of no data set of v3.
    """
    name = tree.told(INFO)
    text = decode_utf8(tree.read(INFO, "a LeRobot data set has it"), name, "description")
    try:
        found = strict_json(text)
        version, features = str(found["codebase_version"]), found["features"]
        known = isinstance(features, dict) and all(isinstance(f, dict) for f in features.values())
    except (ValueError, KeyError, TypeError) as error:
        raise MfsynthError(f"{name}: no description of a LeRobot data set ({error})") from error
    if not known or not version.startswith("v3."):
        raise MfsynthError(
            f"{name}: a LeRobot data set of {version}; convert it to v3.0 by lerobot's own script "
            "(lerobot.scripts.convert_dataset_v21_to_v30)"
        )
    return dict(found)


def number_in(found: Mapping[str, Any], key: str, default: float, told: str) -> float:
    """A number that a description has.

    Args:
        found: What it is in.
        key: What it is called there.
        default: If it isn't.
        told: Where it is, for messages.

    Raises:
        MfsynthError: It is something else.
    """
    value = found.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MfsynthError(f"{told}: {key} is {value!r:.40}, which is no number; mend it")
    return float(value)


def videos_of(
    tree: Tree, info: Mapping[str, Any], key: str, tolerance: Tolerance
) -> tuple[dict[int, tuple[str, float]], list[Skipped]]:
    """By episode the video of a feature and when it begins there; and tables that can't be read."""
    begins = f"videos/{key}/from_timestamp"
    places = tuple(f"videos/{key}/{part}_index" for part in ("chunk", "file"))
    template = str(info.get("video_path") or "")

    def read(file: TableFile) -> dict[int, tuple[str, float]]:
        _require(file, ("episode_index", *places, begins))
        found = {}
        rows = file.columns(("episode_index", *places, begins)).to_pylist()
        with decoding(file.told, "a table of episodes", "restore it"):
            for row in rows:
                numbers = {"chunk_index": row[places[0]], "file_index": row[places[1]]}
                path = _path(template, {"video_key": key, **numbers}, tree)
                found[int(row["episode_index"])] = path, float(row[begins])
        return found

    files = [TableFile(tree, name) for name in sorted(tree.glob("meta/episodes/**/*.parquet"))]
    readable, skipped = tolerance.readable(files, read, lambda file: file.told)
    return {number: place for _, one in readable for number, place in one.items()}, skipped


def _path(template: str, values: Mapping[str, Any], tree: Tree) -> str:
    def filled(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None or (match[2] and not isinstance(value, int)):
            raise MfsynthError(f"{tree.told(INFO)}: video_path names {match[0]}; restore it")
        return f"{int(value):0{match[2]}d}" if match[2] else str(value)

    path = _FIELD.sub(filled, template)
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise MfsynthError(f"{tree.told(INFO)}: video_path is no path in the folder; restore it")
    return path


def columns_of(
    features: Mapping[str, Mapping[str, Any]], but: Collection[str | None], told: str
) -> dict[str, FrameColumn]:
    """Features of plain values that no other part of an item has.

    Args:
        features: Of the description.
        but: Those that others have.
        told: Where the description is, for messages.

    Raises:
        MfsynthError: One has no shape.
    """
    found = {}
    for name, about in features.items():
        if name in but or name in _COUNTERS or name == _INDEX:
            continue
        try:
            column = FrameColumn.of(about)
        except ValueError as error:
            raise MfsynthError(f"{told}: {name}: {error}; mend it") from error
        if column is not None:
            found[name] = column
    return found


def frame_file(
    columns: Mapping[str, FrameColumn], cells: Mapping[str, pa.Scalar], name: str
) -> bytes:
    """What a frame has in columns, as `KEY.lerobot.json`; without those in which it has nothing.

    Args:
        columns: By name.
        cells: Of the frame.
        name: Of it, for messages.

    Raises:
        MfsynthError: A cell is not what is said of its column.
    """
    values = {}
    for key, column in columns.items():
        cell = cells[key]
        found = cell.value if isinstance(cell, pa.ExtensionScalar) else cell
        value = None if found is None else found.as_py()
        if value is None:
            continue
        try:
            values[key] = column.value(value)
        except ValueError as error:
            remedy = "mend it, or leave the frame out"
            raise MfsynthError(f"{name}: {key}: {error}; {remedy}") from error
    return encode_frame({key: columns[key] for key in values}, values)


def read_tasks(tree: Tree) -> dict[int, str]:
    """Words by the numbers of tasks; none where there is no table of them.

    Raises:
        MfsynthError: It can't be read.
    """
    name = "meta/tasks.parquet"
    if tree.find(name) is None:
        return {}
    file = TableFile(tree, name)
    _require(file, ("task_index",))
    # The index of a frame of pandas is named by whoever wrote it.
    words = [f.name for f in file.schema() if pa.types.is_string(f.type) or _is_large(f.type)]
    if not words:
        raise MfsynthError(f"{file.told}: no column of texts; restore it")
    table = file.columns(["task_index", words[0]])
    return dict(zip(table["task_index"].to_pylist(), table[words[0]].to_pylist(), strict=True))


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind))


def _require(file: TableFile, names: tuple[str, ...]) -> None:
    known = file.schema().names
    for name in names:
        if name not in known:
            raise MfsynthError(f"{file.told}: no column {name!r}; {did_you_mean(name, known)}")
