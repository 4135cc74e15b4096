"""What the tables of a LeRobot data set have: features, and columns of frames and of episodes."""

from __future__ import annotations

import json
from typing import Any, Final

import pyarrow as pa

from mfsynth.datasets.exports import lerobot_stats as stats
from mfsynth.datasets.exports.lerobot_columns import Shared, arrow_type
from mfsynth.datasets.exports.pairs import Pairs
from mfsynth.datasets.exports.pictures import PICTURE

RGB, DEPTH, INTRINSICS = "observation.images.rgb", "observation.images.depth", "camera.intrinsics"
FILES_PER_CHUNK: Final = 1000
K: Final = ("fx", "fy", "cx", "cy")
LICENCES: Final = ("model_licence", "estimator_licence", "source_licence")
_TEXTS: Final = ("sample_id", "intrinsics_source", "licence", *LICENCES)
# Of runs that have episodes: where a frame stood.
_SOURCE: Final = {
    "source_episode": "string",
    "source_frame": "int64",
    "source_timestamp": "float64",
}
_TYPES: Final = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
COUNTERS: Final = ("frame_index", "episode_index", "index", "task_index")
OWN: Final = frozenset({RGB, DEPTH, INTRINSICS, "timestamp", *_TEXTS, *_SOURCE, *COUNTERS})
"""Names of columns that are not a source's."""


def _has_camera(pairs: Pairs) -> bool:
    return any(camera.intrinsics is not None for camera in pairs.cameras)


def has_episodes(pairs: Pairs) -> bool:
    """Whether it says where frames stood in recordings."""
    return "episode" in pairs.schema.names


def features(height: int, width: int, pairs: Pairs, shared: Shared) -> dict[str, Any]:
    """Features of info.json, of images of so many pixels."""
    picture = {"dtype": "image", "names": ["height", "width", "channels"]}
    depth = {"is_depth_map": True, "depth_unit": "m"}
    return {
        RGB: {**picture, "shape": [height, width, 3]},
        DEPTH: {**picture, "shape": [height, width, 1], "info": depth},
        **(
            {INTRINSICS: {"dtype": "float64", "shape": [len(K)], "names": [*K]}}
            if _has_camera(pairs)
            else {}
        ),
        **{name: _single("string") for name in _TEXTS},
        **({name: _single(kind) for name, kind in _SOURCE.items()} if has_episodes(pairs) else {}),
        **{name: column.described for name, column in shared.columns.items()},
        "timestamp": _single("float32"),
        **{name: _single("int64") for name in COUNTERS},
    }


def _single(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}


def schema_of_frames(pairs: Pairs, shared: Shared) -> pa.Schema:
    """That of data/: a row a frame."""
    about = {"info": {"features": {name: {"_type": "Image"} for name in (RGB, DEPTH)}}}
    source = _SOURCE if has_episodes(pairs) else {}
    intrinsics = [pa.field(INTRINSICS, pa.list_(pa.float64(), len(K)))]
    return pa.schema(
        [
            pa.field(RGB, PICTURE),
            pa.field(DEPTH, PICTURE),
            *(intrinsics if _has_camera(pairs) else []),
            *(pa.field(name, pa.string()) for name in _TEXTS),
            *(pa.field(name, _TYPES[kind]) for name, kind in source.items()),
            *(pa.field(name, arrow_type(column)) for name, column in shared.columns.items()),
            pa.field("timestamp", pa.float32()),
            *(pa.field(name, pa.int64()) for name in COUNTERS),
        ],
        {"huggingface": json.dumps(about)},
    )


def schema_of_episodes(pairs: Pairs, shared: Shared) -> pa.Schema:
    """That of meta/episodes: null is what an episode has nothing of, as a camera that isn't known.

    Readers take all files for those of one table, so none may go by what is in its own episodes.
    """
    axes = {RGB: 3, DEPTH: 3, "timestamp": 1, **dict.fromkeys(COUNTERS, 1)}
    axes |= {INTRINSICS: 1} if _has_camera(pairs) else {}
    axes |= {
        name: len(column.shape) for name, column in shared.columns.items() if not column.is_text
    }
    return pa.schema(
        [
            pa.field("episode_index", pa.int64()),
            pa.field("tasks", pa.list_(pa.string())),
            pa.field("length", pa.int64()),
            *(pa.field(name, pa.int64()) for name in places(0)),
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


def places(file: int) -> dict[str, int]:
    """Where an episode of a file is: its frames, and what is said of it."""
    chunk, index = divmod(file, FILES_PER_CHUNK)
    return {
        f"{what}/{name}_index": value
        for what in ("data", "meta/episodes")
        for name, value in (("chunk", chunk), ("file", index))
    }
