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
from mfsynth.datasets.exports.lerobot_columns import Shared, has_columns
from mfsynth.datasets.exports.lerobot_schema import (
    COUNTERS,
    DEPTH,
    FILES_PER_CHUNK,
    INTRINSICS,
    LICENCES,
    OWN,
    RGB,
    K,
    features,
    has_episodes,
    places,
    schema_of_episodes,
    schema_of_frames,
)
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.pictures import depth_mark, rgb_png
from mfsynth.errors import MfsynthError
from mfsynth.shards.codecs import has_three_channels
from mfsynth.shards.layout import run_id
from mfsynth.shards.marks import xmp_packet

# Of a tag of TIFF with an XMP packet.
_XMP_TAG = 700
_PROVENANCE: Final = "meta/provenance.json"
# Times of sensors jitter: rates of runs that differ by no more are one.
_ONE_RATE: Final = 1.1
# Of an episode, in a row group.
_FRAMES_TOGETHER: Final = 16


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
        "the JPEG as it is (PNG of one in grey), depth as TIFF of float32 metres, K as a column; "
        "actions, states and other columns of a LeRobot source"
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
        schema = schema_of_frames(pairs, shared)
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
                rows.append({name: row[name] for name in (*COUNTERS, "sample_id")})
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
                pa.Table.from_pylist(episodes, schema_of_episodes(pairs, shared))
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
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "splits": {"train": f"0:{len(pairs.episodes)}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": None,
            "features": features(camera.height, camera.width, pairs, self._shared(pairs)),
        }
        more = {_PROVENANCE: json_document(_provenance(pairs))} if has_episodes(pairs) else {}
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
    return Shared.of(pairs, OWN)


def _row(frame: Frame, pairs: Pairs, fps: int) -> dict[str, Any]:
    _, tasks = pairs.prompts
    episode, number = pairs.episodes.episode_of(frame.number)
    moment = frame.row if recording_of(frame.row) is not None else {}
    time = moment.get("timestamp")
    k, sample = frame.camera.intrinsics, frame.sample
    name = f"{sample.sample_id}.depth.tiff"
    return {
        RGB: _picture(frame),
        DEPTH: {"bytes": _tiff(frame), "path": name},
        INTRINSICS: [float("nan") if k is None else getattr(k, value) for value in K],
        "sample_id": sample.sample_id,
        "intrinsics_source": frame.camera.source or "",
        "licence": frame.row.get("licence") or "",
        **{name: pairs.origin(frame.number)[name] or "" for name in LICENCES},
        "source_episode": moment.get("episode", ""),
        "source_frame": moment.get("frame", 0),
        "source_timestamp": float("nan") if time is None else time,
        "timestamp": number / fps,
        "frame_index": number,
        "episode_index": episode,
        "index": frame.number,
        "task_index": int(tasks[frame.number]),
    }


def _picture(frame: Frame) -> dict[str, Any]:
    """The image in three channels, as info.json has it: older runs kept photographs in grey."""
    name, jpeg = f"{frame.sample.sample_id}.rgb", frame.files["rgb"]
    if has_three_channels(jpeg):
        return {"bytes": jpeg, "path": f"{name}.jpg"}
    return {"bytes": rgb_png(frame.sample.rgb, frame.row), "path": f"{name}.png"}


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
    for name in ("timestamp", *COUNTERS):
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
        **places(file),
        "dataset_from_index": first,
        "dataset_to_index": end,
        **{
            f"stats/{name}/{key}": value
            for name, each in found.items()
            for key, value in each.items()
        },
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
    chunk, index = divmod(file, FILES_PER_CHUNK)
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
