"""LeRobot data sets of format v3.0 (github.com/huggingface/lerobot, lerobot 0.6), depth as TIFF.

meta/info.json, meta/stats.json, meta/tasks.parquet
meta/episodes/chunk-000/file-000.parquet
meta/provenance.json                        of runs with episodes, for people and other tools
data/chunk-000/file-000.parquet
"""

from __future__ import annotations

import io
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from mfsynth import __version__
from mfsynth.config.base import Count
from mfsynth.config.documents import json_document
from mfsynth.datasets.exports import lerobot_stats as stats
from mfsynth.datasets.exports.base import Block, Content, Exporter, Facts
from mfsynth.datasets.exports.episodes import COLUMNS, Episodes, recording_of
from mfsynth.datasets.exports.lerobot_columns import Shared, arrow_type, has_columns
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.pictures import PICTURE, depth_mark
from mfsynth.errors import MfsynthError
from mfsynth.shards.layout import run_id
from mfsynth.shards.marks import xmp_packet

RGB, DEPTH, INTRINSICS = "observation.images.rgb", "observation.images.depth", "camera.intrinsics"
_FILES_PER_CHUNK: Final = 1000
_K: Final = ("fx", "fy", "cx", "cy")
# Of a tag of TIFF with an XMP packet.
_XMP_TAG = 700
_LICENCES: Final = ("model_licence", "estimator_licence", "source_licence")
_TEXTS: Final = ("sample_id", "intrinsics_source", "licence", *_LICENCES)
# Of runs that have episodes: where a frame stood.
_SOURCE: Final = {
    "source_episode": "string",
    "source_frame": "int64",
    "source_timestamp": "float64",
}
_TYPES: Final = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
_PROVENANCE: Final = "meta/provenance.json"
# Times of sensors jitter: rates of runs that differ by no more are one.
_ONE_RATE: Final = 1.1
# Of an episode, in a row group.
_FRAMES_TOGETHER: Final = 16
_COUNTERS: Final = ("frame_index", "episode_index", "index", "task_index")
_OWN: Final = frozenset({RGB, DEPTH, INTRINSICS, "timestamp", *_TEXTS, *_SOURCE, *_COUNTERS})


class LeRobot(Exporter):
    """Frames of episodes: image, depth, K, key; the prompt is the task.

    A pair that is no frame of an episode is an episode of one frame. Where frames are missing
    (rejected, or never made) an episode is cut into several: LeRobot's readers step from row to
    row, and would take what comes after a gap for the next moment.

    Attributes:
        pairs_per_file: How many a file has at most, but for a longer episode, which is in one file.
        fps: Frames a second; taken from the frames' times unless given, which runs of several rates
            need, and 1 where they have none.
        columns: Whether it has the columns of a LeRobot source, as actions and states, that all
            pairs share.
    """

    holds: ClassVar[str] = (
        "the JPEG as it is, depth as TIFF of float32 metres, K as a column; actions, states and "
        "other columns of a LeRobot source"
    )
    keeps: ClassVar[Set[Content]] = frozenset({Content.TIMES})
    cuts: ClassVar[str] = (
        "an episode's gaps (it is cut there); pairs of other sizes, runs of other frame rates "
        "(refused); columns that not all pairs have in one shape"
    )

    pairs_per_file: Count = 256
    fps: Count | None = None
    columns: bool = True

    @property
    def block_size(self) -> int:
        """See `Exporter`."""
        return self.pairs_per_file

    def require(self, pairs: Pairs) -> None:
        """See `Exporter`."""
        super().require(pairs)
        if len(sizes := {(camera.width, camera.height) for camera in pairs.cameras}) > 1:
            told = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
            raise MfsynthError(
                f"pairs of {told} pixels, and a LeRobot data set has one size; export the runs of "
                "each size by themselves"
            )
        rates = {_whole_rate(seconds) for seconds in pairs.episodes.seconds}
        if self.fps is None and rates and max(rates) > _ONE_RATE * min(rates):
            told = ", ".join(map(str, sorted(rates)))
            raise MfsynthError(
                f"runs of {told} frames a second, and a LeRobot data set has one rate; export the "
                "runs of each rate by themselves, or give --set fps=N"
            )
        self._shared(pairs)

    def left_out(self, pairs: Pairs) -> str:
        """See `Exporter`."""
        names = self._shared(pairs).others
        if not names:
            return ""
        return (
            f"{', '.join(names)} of a LeRobot source: not in the export, for not all of its pairs "
            "have them in one type and shape; export those that do by themselves"
        )

    def _shared(self, pairs: Pairs) -> Shared:
        return _shared(pairs) if self.columns else Shared({})

    def arranged(self, pairs: Pairs) -> Pairs:
        """See `Exporter`: episode by episode."""
        return pairs.by_frames.with_labels(self.columns and has_columns(pairs))

    def blocks(self, pairs: Pairs) -> Sequence[range]:
        """See `Exporter`: a file has whole episodes."""
        return _files(pairs.episodes, self.pairs_per_file)

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        fps, rows, found = self._rate(pairs), list[dict[str, Any]](), list[stats.Stats]()
        episode = stats.OfEpisode()
        shared = self._shared(pairs)
        schema = _schema(pairs, shared)
        stream, waiting = io.BytesIO(), list[dict[str, Any]]()
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:

            def write() -> None:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting.clear()

            for frame in frames:
                values = shared.values(frame)
                row = _row(frame, pairs, fps)
                row |= {name: value.tolist() for name, value in values.items()}
                if waiting and (row["frame_index"] == 0 or len(waiting) == _FRAMES_TOGETHER):
                    write()
                waiting.append(row)
                if rows and row["frame_index"] == 0:
                    found.append(episode.done())
                    episode = stats.OfEpisode()
                _measure(frame, row, values, episode)
                rows.append({name: row[name] for name in (*_COUNTERS, "sample_id")})
            write()
        found.append(episode.done())
        file = bisect_right(self.blocks(pairs), rows[0]["index"], key=lambda block: block.start) - 1
        episodes = [
            _episode(rows[begin:end], of_episode, file, pairs)
            for (begin, end), of_episode in zip(_stretches(rows), found, strict=True)
        ]
        files = {
            f"data/{_name(file)}": stream.getvalue(),
            f"meta/episodes/{_name(file)}": _parquet(
                pa.Table.from_pylist(episodes, _schema_of_episodes(pairs, shared))
            ),
        }
        return Block(files, facts={"stats": stats.joined(found)})

    def _rate(self, pairs: Pairs) -> int:
        """Frames a second, a whole number as LeRobot has it."""
        seconds = pairs.episodes.seconds
        return self.fps or (_whole_rate(float(np.median(seconds))) if seconds else 1)

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        tasks, _ = pairs.prompts
        camera = pairs.cameras[0]
        info = {
            "codebase_version": "v3.0",
            "robot_type": None,
            "fps": self._rate(pairs),
            "total_episodes": len(pairs.episodes),
            "total_frames": len(pairs),
            "total_tasks": len(tasks),
            "chunks_size": _FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "splits": {"train": f"0:{len(pairs.episodes)}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": None,
            "features": _features(camera.height, camera.width, pairs, self._shared(pairs)),
        }
        more = {_PROVENANCE: json_document(_provenance(pairs))} if _has_episodes(pairs) else {}
        return {
            **more,
            "meta/info.json": json_document(info),
            "meta/stats.json": json_document(stats.joined([each["stats"] for each in facts])),
            "meta/tasks.parquet": _tasks(tasks),
        }


def _whole_rate(seconds: float) -> int:
    """Frames a second of frames so far apart; at least 1."""
    return max(1, round(1 / seconds))


# Asked for with each file, and the same for all of an export.
@lru_cache(maxsize=1)
def _files(episodes: Episodes, most: int) -> tuple[range, ...]:
    """Pairs of each file: whole episodes, so many pairs at most unless one is longer."""
    found, begin = [], 0
    starts = episodes.starts.tolist()
    for start, end in pairwise(starts):
        if begin < start and end - begin > most:
            found.append(range(begin, start))
            begin = start
    return (*found, range(begin, starts[-1]))


# Likewise.
@lru_cache(maxsize=1)
def _shared(pairs: Pairs) -> Shared:
    return Shared.of(pairs, _OWN)


def _has_camera(pairs: Pairs) -> bool:
    return any(camera.intrinsics is not None for camera in pairs.cameras)


def _has_episodes(pairs: Pairs) -> bool:
    return "episode" in pairs.schema.names


def _features(height: int, width: int, pairs: Pairs, shared: Shared) -> dict[str, Any]:
    picture = {"dtype": "image", "names": ["height", "width", "channels"]}
    depth = {"is_depth_map": True, "depth_unit": "m"}
    return {
        RGB: {**picture, "shape": [height, width, 3]},
        DEPTH: {**picture, "shape": [height, width, 1], "info": depth},
        **(
            {INTRINSICS: {"dtype": "float64", "shape": [len(_K)], "names": [*_K]}}
            if _has_camera(pairs)
            else {}
        ),
        **{name: _single("string") for name in _TEXTS},
        **({name: _single(kind) for name, kind in _SOURCE.items()} if _has_episodes(pairs) else {}),
        **{name: column.described for name, column in shared.columns.items()},
        "timestamp": _single("float32"),
        **{name: _single("int64") for name in _COUNTERS},
    }


def _single(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}


def _schema(pairs: Pairs, shared: Shared) -> pa.Schema:
    about = {"info": {"features": {name: {"_type": "Image"} for name in (RGB, DEPTH)}}}
    source = _SOURCE if _has_episodes(pairs) else {}
    intrinsics = [pa.field(INTRINSICS, pa.list_(pa.float64(), len(_K)))]
    return pa.schema(
        [
            pa.field(RGB, PICTURE),
            pa.field(DEPTH, PICTURE),
            *(intrinsics if _has_camera(pairs) else []),
            *(pa.field(name, pa.string()) for name in _TEXTS),
            *(pa.field(name, _TYPES[kind]) for name, kind in source.items()),
            *(pa.field(name, arrow_type(column)) for name, column in shared.columns.items()),
            pa.field("timestamp", pa.float32()),
            *(pa.field(name, pa.int64()) for name in _COUNTERS),
        ],
        {"huggingface": json.dumps(about)},
    )


def _schema_of_episodes(pairs: Pairs, shared: Shared) -> pa.Schema:
    """That of meta/episodes: null is what an episode has nothing of, as a camera that isn't known.

    Readers take all files for those of one table, so none may go by what is in its own episodes.
    """
    axes = {RGB: 3, DEPTH: 3, "timestamp": 1, **dict.fromkeys(_COUNTERS, 1)}
    axes |= {INTRINSICS: 1} if _has_camera(pairs) else {}
    axes |= {
        name: len(column.shape) for name, column in shared.columns.items() if not column.is_text
    }
    return pa.schema(
        [
            pa.field("episode_index", pa.int64()),
            pa.field("tasks", pa.list_(pa.string())),
            pa.field("length", pa.int64()),
            *(pa.field(name, pa.int64()) for name in _places(0)),
            pa.field("dataset_from_index", pa.int64()),
            pa.field("dataset_to_index", pa.int64()),
            *(
                pa.field(
                    f"stats/{name}/{key}",
                    pa.list_(pa.int64()) if key == "count" else _nested(pa.float64(), count),
                )
                for name, count in axes.items()
                for key in stats.NAMES
            ),
        ]
    )


def _nested(values: pa.DataType, axes: int) -> pa.DataType:
    for _ in range(axes):
        values = pa.list_(values)
    return values


def _row(frame: Frame, pairs: Pairs, fps: int) -> dict[str, Any]:
    _, tasks = pairs.prompts
    episode, number = pairs.episodes.episode_of(frame.number)
    moment = frame.row if recording_of(frame.row) is not None else {}
    time = moment.get("timestamp")
    k, sample = frame.camera.intrinsics, frame.sample
    name = f"{sample.sample_id}.depth.tiff"
    return {
        RGB: {"bytes": frame.files["rgb"], "path": f"{sample.sample_id}.rgb.jpg"},
        DEPTH: {"bytes": _tiff(frame), "path": name},
        INTRINSICS: [float("nan") if k is None else getattr(k, value) for value in _K],
        "sample_id": sample.sample_id,
        "intrinsics_source": frame.camera.source or "",
        "licence": frame.row.get("licence") or "",
        **{name: pairs.origin(frame.number)[name] or "" for name in _LICENCES},
        "source_episode": moment.get("episode", ""),
        "source_frame": moment.get("frame", 0),
        "source_timestamp": float("nan") if time is None else time,
        "timestamp": number / fps,
        "frame_index": number,
        "episode_index": episode,
        "index": frame.number,
        "task_index": int(tasks[frame.number]),
    }


def _tiff(frame: Frame) -> bytes:
    kind = depth_mark(frame.row)
    mark = {} if kind is None else {_XMP_TAG: xmp_packet(kind)}
    stream = io.BytesIO()
    Image.fromarray(frame.depth).save(stream, "TIFF", tiffinfo=mark)
    return stream.getvalue()


def _measure(
    frame: Frame, row: Mapping[str, Any], values: Mapping[str, NDArray[Any]], into: stats.OfEpisode
) -> None:
    """Pictures and numbers of a frame, but the columns of which a number is NaN or infinite."""
    into.add_picture(RGB, frame.sample.rgb, 255.0)
    into.add_picture(DEPTH, frame.depth[..., None], 1.0)
    for name in ("timestamp", *_COUNTERS):
        into.add_value(name, [row[name]])
    if frame.camera.intrinsics is not None:
        into.add_value(INTRINSICS, row[INTRINSICS])
    for name, value in values.items():
        if value.dtype != object and np.isfinite(value).all():
            into.add_value(name, np.atleast_1d(value))


def _episode(
    rows: Sequence[Mapping[str, Any]], found: stats.Stats, file: int, pairs: Pairs
) -> dict[str, Any]:
    """What meta/episodes has of one.

    Args:
        rows: Of its frames, without pictures.
        found: Its statistics.
        file: Its number.
        pairs: All.
    """
    tasks, _ = pairs.prompts
    first, end = rows[0]["index"], rows[-1]["index"] + 1
    return {
        "episode_index": rows[0]["episode_index"],
        "tasks": [*dict.fromkeys(tasks[row["task_index"]] for row in rows)],
        "length": len(rows),
        **_places(file),
        "dataset_from_index": first,
        "dataset_to_index": end,
        **{
            f"stats/{name}/{key}": value
            for name, each in found.items()
            for key, value in each.items()
        },
    }


def _places(file: int) -> dict[str, int]:
    """Where an episode of a file is: its frames, and what is said of it."""
    chunk, index = divmod(file, _FILES_PER_CHUNK)
    return {
        f"{what}/{name}_index": value
        for what in ("data", "meta/episodes")
        for name, value in (("chunk", chunk), ("file", index))
    }


def _stretches(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, int]]:
    """Where each episode begins and ends among rows."""
    begins = [at for at, row in enumerate(rows) if row["frame_index"] == 0]
    return pairwise([*begins, len(rows)])


def _provenance(pairs: Pairs) -> dict[str, Any]:
    """Which frames of which episodes of which runs episodes are of, in their order."""
    episodes, rows = pairs.episodes, [*pairs.rows(["sample_id", *COLUMNS])]
    parts = []
    for step, (first, end) in zip(
        episodes.steps.tolist(), pairwise(episodes.starts.tolist()), strict=True
    ):
        run, episode, copy = recording_of(rows[first]) or (
            rows[first]["sample_id"].rpartition("-")[0],
            None,
            None,
        )
        parts.append(
            {
                **{"run": run, "episode": episode, "copy": copy},
                **{"first_frame": rows[first]["frame"], "step": step},
                **{"frames": end - first, "first_sample": rows[first]["sample_id"]},
            }
        )
    runs = [
        {
            **{
                "run": run_id(run.run, run.fingerprint, run.format_version),
                "fingerprint": run.fingerprint,
            },
            **{"mode": run.config.get("sampler", {}).get("mode"), "created": run.created},
            **{"model": run.model, "estimator": run.estimator or None},
        }
        for run in pairs.runs
    ]
    return {"made_by": "mfsynth", "version": __version__, "runs": runs, "episodes": parts}


def _name(file: int) -> str:
    chunk, index = divmod(file, _FILES_PER_CHUNK)
    return f"chunk-{chunk:03d}/file-{index:03d}.parquet"


def _tasks(tasks: Sequence[str]) -> bytes:
    """As pandas writes a frame whose index are the tasks."""
    columns = [("task_index", "int64", "int64"), ("task", "unicode", "object")]
    about = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {
                "name": name,
                "field_name": name,
                "pandas_type": kind,
                "numpy_type": numpy,
                "metadata": None,
            }
            for name, kind, numpy in columns
        ],
        "pandas_version": "2.2.0",
    }
    schema = pa.schema(
        [pa.field("task_index", pa.int64()), pa.field("task", pa.string())],
        {"pandas": json.dumps(about)},
    )
    return _parquet(pa.table([range(len(tasks)), [*tasks]], schema=schema))


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
