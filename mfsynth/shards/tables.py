"""Columns of the index and of the rejects, as Parquet.

The schema follows from the declared names of the scores alone, never from the rows, so all
shards of a run have one schema, also those without a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfsynth.shards.codecs import FORMULAS, DepthEncoding
from mfsynth.shards.layout import FORMAT_VERSION
from mfsynth.shards.records import Quarantine, Reject, Sample
from mfsynth.shards.tar import Span

SCORE_PREFIX = "check_"
REJECTED = "rejected"
QUARANTINED = "quarantined"
MEMBERS = ("rgb", "depth", "json")

_METADATA = {
    "mfsynth.format_version": str(FORMAT_VERSION),
    "mfsynth.depth": "; ".join(f"{scale}: {formula}" for scale, formula in FORMULAS.items()),
    "mfsynth.camera": "OpenCV axes (x right, y down, z forward), integer pixel centres, z-depth",
}


@dataclass(frozen=True, slots=True)
class Spans:
    """The three members of a sample in the tar."""

    rgb: Span
    depth: Span
    json: Span


def index_schema(score_names: Sequence[str]) -> pa.Schema:
    """Schema of `index/*.parquet`; scores are `check_<name>`, float64, null = abstained."""
    fields = [
        _required("sample_id", pa.string()),
        _required("shard", pa.int64()),
        _required("row", pa.int64()),
        _required("prompt", pa.string()),
        _required("prompt_id", pa.string()),
        _required("candidate", pa.int64()),
        _required("seed", pa.int64()),
        _required("width", pa.int32()),
        _required("height", pa.int32()),
        *(pa.field(name, pa.float64()) for name in ("fx", "fy", "cx", "cy")),
        pa.field("intrinsics_source", pa.string()),
        _required("depth_encoding", pa.string()),
        _required("depth_unit_per_code", pa.float64()),
        _required("depth_near", pa.float64()),
        _required("depth_far", pa.float64()),
        _required("depth_kind", pa.string()),
        _required("valid_fraction", pa.float64()),
    ]
    for member in MEMBERS:
        fields += [
            _required(f"{member}_offset", pa.int64()),
            _required(f"{member}_size", pa.int64()),
            _required(f"{member}_crc32", pa.uint32()),
        ]
    fields += [_required("mode", pa.string()), _required("model_id", pa.string())]
    return pa.schema([*fields, *_score_fields(score_names)], metadata=_METADATA)


def rejects_schema(score_names: Sequence[str]) -> pa.Schema:
    """Schema of `rejects/*.parquet`; `outcome` is `rejected` or `quarantined`."""
    fields = [
        _required("sample_id", pa.string()),
        _required("shard", pa.int64()),
        _required("prompt", pa.string()),
        _required("prompt_id", pa.string()),
        _required("candidate", pa.int64()),
        _required("seed", pa.int64()),
        _required("outcome", pa.string()),
        _required("reasons", pa.list_(pa.string())),
        pa.field("thumbnail", pa.binary()),
    ]
    return pa.schema([*fields, *_score_fields(score_names)], metadata=_METADATA)


def index_row(
    sample: Sample, shard: int, row: int, encoding: DepthEncoding, spans: Spans
) -> dict[str, Any]:
    """The index's row of a sample."""
    camera = sample.intrinsics
    values: dict[str, Any] = {
        "sample_id": sample.sample_id,
        "shard": shard,
        "row": row,
        "prompt": sample.prompt,
        "prompt_id": sample.prompt_id,
        "candidate": sample.candidate,
        "seed": sample.seed,
        "width": sample.rgb.shape[1],
        "height": sample.rgb.shape[0],
        "fx": camera.fx if camera else None,
        "fy": camera.fy if camera else None,
        "cx": camera.cx if camera else None,
        "cy": camera.cy if camera else None,
        "intrinsics_source": sample.intrinsics_source and str(sample.intrinsics_source),
        "depth_encoding": str(encoding.scale),
        "depth_unit_per_code": encoding.unit_per_code,
        "depth_near": encoding.near,
        "depth_far": encoding.far,
        "depth_kind": str(sample.depth_kind),
        "valid_fraction": np.count_nonzero(sample.depth > 0) / sample.depth.size,
        "mode": sample.mode,
        "model_id": sample.model_id,
        **_score_values(sample.scores),
    }
    for member in MEMBERS:
        span: Span = getattr(spans, member)
        values[f"{member}_offset"] = span.offset
        values[f"{member}_size"] = span.size
        values[f"{member}_crc32"] = span.crc32
    return values


def reject_row(record: Reject | Quarantine, shard: int) -> dict[str, Any]:
    """The rejects' row of a candidate that gave no sample."""
    row: dict[str, Any] = {
        "sample_id": record.sample_id,
        "shard": shard,
        "prompt": record.prompt,
        "prompt_id": record.prompt_id,
        "candidate": record.candidate,
        "seed": record.seed,
    }
    if isinstance(record, Quarantine):
        return {**row, "outcome": QUARANTINED, "reasons": [record.reason]}
    return {
        **row,
        "outcome": REJECTED,
        "reasons": list(record.reasons),
        "thumbnail": record.thumbnail_jpeg,
        **_score_values(record.scores),
    }


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as one Parquet file; a column that a row lacks is null."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    pq.write_table(table, path, compression="zstd")


def score_names(schema: pa.Schema) -> list[str]:
    """Names of the scores in a schema, without the prefix."""
    return [n.removeprefix(SCORE_PREFIX) for n in schema.names if n.startswith(SCORE_PREFIX)]


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _score_fields(names: Sequence[str]) -> list[pa.Field]:
    return [pa.field(f"{SCORE_PREFIX}{name}", pa.float64()) for name in names]


def _score_values(scores: Mapping[str, float]) -> dict[str, float | None]:
    # Null, not NaN: it is what every reader of Parquet counts as "no value".
    return {
        f"{SCORE_PREFIX}{name}": None if math.isnan(score) else float(score)
        for name, score in scores.items()
    }
