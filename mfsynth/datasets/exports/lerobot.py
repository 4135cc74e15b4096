"""LeRobot data sets of format v3.0 (github.com/huggingface/lerobot, lerobot 0.6), depth as TIFF.

meta/info.json, meta/stats.json, meta/tasks.parquet
meta/episodes/chunk-000/file-000.parquet
data/chunk-000/file-000.parquet
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mfsynth.config.base import Count
from mfsynth.config.documents import json_document
from mfsynth.datasets.exports import lerobot_stats as stats
from mfsynth.datasets.exports.base import Block, Exporter, Facts
from mfsynth.datasets.exports.pairs import Frame, Pairs
from mfsynth.datasets.exports.pictures import PICTURE, depth_mark
from mfsynth.errors import MfsynthError
from mfsynth.shards.marks import xmp_packet

RGB, DEPTH, INTRINSICS = "observation.images.rgb", "observation.images.depth", "camera.intrinsics"
_FILES_PER_CHUNK: Final = 1000
_K: Final = ("fx", "fy", "cx", "cy")
# Of a tag of TIFF with an XMP packet.
_XMP_TAG = 700
_LICENCES: Final = ("model_licence", "estimator_licence", "source_licence")
_TEXTS: Final = ("sample_id", "intrinsics_source", "licence", *_LICENCES)
_COUNTERS: Final = ("frame_index", "episode_index", "index", "task_index")


class LeRobot(Exporter):
    """An episode of one frame a pair: image, depth, K, key; its prompt is the task.

    Attributes:
        pairs_per_file: Of each file but the last.
    """

    holds: ClassVar[str] = "the JPEG as it is, depth as TIFF of float32 metres, K as a column"
    loses: ClassVar[str] = (
        "episodes and times of frames (each is an episode); pairs of other sizes (refused)"
    )

    pairs_per_file: Count = 256

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

    def encode(self, frames: Iterable[Frame], pairs: Pairs) -> Block:
        """See `Exporter`."""
        rows, found = [], []
        for frame in frames:
            rows.append(_row(frame, pairs))
            found.append(_stats_of(frame, rows[-1]))
        file = rows[0]["index"] // self.pairs_per_file
        episodes = [
            _episode(row, about, file, pairs) for row, about in zip(rows, found, strict=True)
        ]
        files = {
            # One episode a row group, as lerobot writes them.
            f"data/{_name(file)}": _parquet(pa.Table.from_pylist(rows, _schema(pairs)), 1),
            f"meta/episodes/{_name(file)}": _parquet(pa.Table.from_pylist(episodes)),
        }
        return Block(files, facts={"stats": stats.joined(found)})

    def documents(self, pairs: Pairs, facts: Sequence[Facts]) -> Mapping[str, bytes]:
        """See `Exporter`."""
        tasks, _ = pairs.prompts
        camera = pairs.cameras[0]
        info = {
            "codebase_version": "v3.0",
            "robot_type": None,
            "fps": 1,
            "total_episodes": len(pairs),
            "total_frames": len(pairs),
            "total_tasks": len(tasks),
            "chunks_size": _FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "splits": {"train": f"0:{len(pairs)}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": None,
            "features": _features(camera.height, camera.width, _has_camera(pairs)),
        }
        return {
            "meta/info.json": json_document(info),
            "meta/stats.json": json_document(stats.joined([each["stats"] for each in facts])),
            "meta/tasks.parquet": _tasks(tasks),
        }


def _has_camera(pairs: Pairs) -> bool:
    return any(camera.intrinsics is not None for camera in pairs.cameras)


def _features(height: int, width: int, has_camera: bool) -> dict[str, Any]:
    picture = {"dtype": "image", "names": ["height", "width", "channels"]}
    depth = {"is_depth_map": True, "depth_unit": "m"}
    return {
        RGB: {**picture, "shape": [height, width, 3]},
        DEPTH: {**picture, "shape": [height, width, 1], "info": depth},
        **(
            {INTRINSICS: {"dtype": "float64", "shape": [len(_K)], "names": [*_K]}}
            if has_camera
            else {}
        ),
        **{name: _single("string") for name in _TEXTS},
        "timestamp": _single("float32"),
        **{name: _single("int64") for name in _COUNTERS},
    }


def _single(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}


def _schema(pairs: Pairs) -> pa.Schema:
    about = {"info": {"features": {name: {"_type": "Image"} for name in (RGB, DEPTH)}}}
    intrinsics = [pa.field(INTRINSICS, pa.list_(pa.float64(), len(_K)))]
    return pa.schema(
        [
            pa.field(RGB, PICTURE),
            pa.field(DEPTH, PICTURE),
            *(intrinsics if _has_camera(pairs) else []),
            *(pa.field(name, pa.string()) for name in _TEXTS),
            pa.field("timestamp", pa.float32()),
            *(pa.field(name, pa.int64()) for name in _COUNTERS),
        ],
        {"huggingface": json.dumps(about)},
    )


def _row(frame: Frame, pairs: Pairs) -> dict[str, Any]:
    _, tasks = pairs.prompts
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
        "timestamp": 0.0,
        "frame_index": 0,
        "episode_index": frame.number,
        "index": frame.number,
        "task_index": int(tasks[frame.number]),
    }


def _tiff(frame: Frame) -> bytes:
    kind = depth_mark(frame.row)
    mark = {} if kind is None else {_XMP_TAG: xmp_packet(kind)}
    stream = io.BytesIO()
    Image.fromarray(frame.depth).save(stream, "TIFF", tiffinfo=mark)
    return stream.getvalue()


def _stats_of(frame: Frame, row: Mapping[str, Any]) -> stats.Stats:
    found = {
        RGB: stats.of_picture(frame.sample.rgb, 255.0),
        DEPTH: stats.of_picture(frame.depth[..., None], 1.0),
        **{name: stats.of_values([row[name]]) for name in ("timestamp", *_COUNTERS)},
    }
    if frame.camera.intrinsics is not None:
        found[INTRINSICS] = stats.of_values(row[INTRINSICS])
    return found


def _episode(row: Mapping[str, Any], about: stats.Stats, file: int, pairs: Pairs) -> dict[str, Any]:
    tasks, _ = pairs.prompts
    chunk, index = divmod(file, _FILES_PER_CHUNK)
    number = row["episode_index"]
    places = {
        f"{what}/{name}_index": value
        for what in ("data", "meta/episodes")
        for name, value in (("chunk", chunk), ("file", index))
    }
    return {
        "episode_index": number,
        "tasks": [tasks[row["task_index"]]],
        "length": 1,
        **places,
        "dataset_from_index": number,
        "dataset_to_index": number + 1,
        **{
            f"stats/{name}/{key}": value
            for name, each in about.items()
            for key, value in each.items()
        },
    }


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


def _parquet(table: pa.Table, row_group: int | None = None) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=row_group, compression="zstd")
    return sink.getvalue()
