"""Columns of the index and of the rejects, as Parquet: the one table of them.

The schema follows from the declared names of the scores alone, never from the rows, so all
shards of a run have one schema, also those without a row. `run.json` describes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfsynth.shards.codecs import FORMULAS, DepthEncoding
from mfsynth.shards.layout import FORMAT_VERSION, MEMBERS
from mfsynth.shards.records import Quarantine, Reject, Sample
from mfsynth.shards.tar import Span

SCORE_PREFIX = "check_"
REJECTED = "rejected"
QUARANTINED = "quarantined"

_METADATA = {
    "mfsynth.format_version": str(FORMAT_VERSION),
    "mfsynth.depth": "; ".join(f"{scale}: {formula}" for scale, formula in FORMULAS.items()),
    "mfsynth.camera": "OpenCV axes (x right, y down, z forward), integer pixel centres, z-depth",
}

# As `run.json` names them.
_TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint32": pa.uint32(),
    "float64": pa.float64(),
    "binary": pa.binary(),
    "list of string": pa.list_(pa.string()),
}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PlacedSample:
    """A sample where it lies.

    Attributes:
        sample: The pair.
        encoding: Of its depth.
        shard: Number of its shard.
        row: Its number among the samples of the shard, from 0.
        spans: Its members in the tar, by the names in `layout.MEMBERS`.
    """

    sample: Sample
    encoding: DepthEncoding
    shard: int
    row: int
    spans: Mapping[str, Span]


@dataclass(frozen=True, slots=True)
class PlacedReject:
    """A candidate that gave no sample, and the shard that it is of."""

    record: Reject | Quarantine
    shard: int


@dataclass(frozen=True, slots=True)
class _Column(Generic[_T]):
    """A column, and its value in the row of a `_T`."""

    name: str
    type: str
    meaning: str
    value: Callable[[_T], Any]
    nullable: bool = False

    def describe(self) -> dict[str, Any]:
        return _described(self.name, self.type, self.meaning, self.nullable)


def _camera(name: str, meaning: str) -> _Column[PlacedSample]:
    def value(placed: PlacedSample) -> float | None:
        camera = placed.sample.intrinsics
        return None if camera is None else getattr(camera, name)

    return _Column(name, "float64", meaning, value, nullable=True)


def _member(member: str) -> tuple[_Column[PlacedSample], ...]:
    suffix = MEMBERS[member].suffix
    return (
        _Column(
            f"{member}_offset",
            "int64",
            f"first byte of KEY.{suffix} in the tar",
            lambda placed: placed.spans[member].offset,
        ),
        _Column(
            f"{member}_size",
            "int64",
            f"bytes of KEY.{suffix}",
            lambda placed: placed.spans[member].size,
        ),
        _Column(
            f"{member}_crc32",
            "uint32",
            f"CRC-32 of KEY.{suffix}",
            lambda placed: placed.spans[member].crc32,
        ),
    )


_INDEX: tuple[_Column[PlacedSample], ...] = (
    _Column(
        "sample_id",
        "string",
        "key of the sample; no other run has it",
        lambda placed: placed.sample.ref.sample_id,
    ),
    _Column("shard", "int64", "number of the shard", lambda placed: placed.shard),
    _Column("row", "int64", "number of the row in the shard", lambda placed: placed.row),
    _Column("prompt", "string", "text of the prompt", lambda placed: placed.sample.ref.prompt),
    _Column(
        "prompt_id",
        "string",
        "SHA-256 of the prompt, its first 16 digits",
        lambda placed: placed.sample.ref.prompt_id,
    ),
    _Column(
        "candidate",
        "int64",
        "number of the candidate in the run",
        lambda placed: placed.sample.ref.candidate,
    ),
    _Column("seed", "int64", "seed of the noise", lambda placed: placed.sample.ref.seed),
    _Column("width", "int32", "pixels of a row", lambda placed: placed.sample.rgb.shape[1]),
    _Column("height", "int32", "rows of pixels", lambda placed: placed.sample.rgb.shape[0]),
    _camera("fx", "focal length in pixels, along x"),
    _camera("fy", "focal length in pixels, along y"),
    _camera("cx", "principal point in pixels, x; integers are centres of pixels"),
    _camera("cy", "principal point in pixels, y; integers are centres of pixels"),
    _Column(
        "intrinsics_source",
        "string",
        "where fx, fy, cx, cy come from: rendered, estimated or assumed",
        lambda placed: placed.sample.intrinsics_source and str(placed.sample.intrinsics_source),
        nullable=True,
    ),
    _Column(
        "depth_encoding",
        "string",
        "; ".join(f"{scale}: {formula}" for scale, formula in FORMULAS.items()),
        lambda placed: str(placed.encoding.scale),
    ),
    _Column(
        "depth_unit_per_code",
        "float64",
        "`unit_per_code` of the formula",
        lambda placed: placed.encoding.unit_per_code,
    ),
    _Column(
        "depth_near",
        "float64",
        "`near` of the formula: least valid depth; 0 if no pixel is valid",
        lambda placed: placed.encoding.near,
    ),
    _Column(
        "depth_far",
        "float64",
        "greatest valid depth; 0 if no pixel is valid",
        lambda placed: placed.encoding.far,
    ),
    _Column(
        "depth_kind",
        "string",
        "what the numbers mean; only kinds of metric z are metres",
        lambda placed: str(placed.sample.depth_kind),
    ),
    _Column(
        "valid_fraction",
        "float64",
        "share of the pixels that have a depth",
        lambda placed: _valid_fraction(placed.sample),
    ),
    *(column for member in MEMBERS for column in _member(member)),
    _Column("mode", "string", "what was made of what", lambda placed: placed.sample.mode),
    _Column(
        "model_id", "string", "model that made the pair", lambda placed: placed.sample.model_id
    ),
)

_REJECTS: tuple[_Column[PlacedReject], ...] = (
    _Column(
        "sample_id",
        "string",
        "key that the sample would have",
        lambda placed: placed.record.ref.sample_id,
    ),
    _Column("shard", "int64", "number of the shard", lambda placed: placed.shard),
    _Column("prompt", "string", "text of the prompt", lambda placed: placed.record.ref.prompt),
    _Column(
        "prompt_id",
        "string",
        "SHA-256 of the prompt, its first 16 digits",
        lambda placed: placed.record.ref.prompt_id,
    ),
    _Column(
        "candidate",
        "int64",
        "number of the candidate in the run",
        lambda placed: placed.record.ref.candidate,
    ),
    _Column("seed", "int64", "seed of the noise", lambda placed: placed.record.ref.seed),
    _Column(
        "outcome",
        "string",
        f"{REJECTED}: a check failed; {QUARANTINED}: it could not be made",
        lambda placed: _outcome(placed.record),
    ),
    _Column(
        "reasons",
        "list of string",
        "scores that failed, or why it could not be made",
        lambda placed: _reasons(placed.record),
    ),
    _Column(
        "thumbnail",
        "binary",
        "small JPEG of image and depth, where a run keeps them",
        lambda placed: _thumbnail(placed.record),
        nullable=True,
    ),
)


def contents_of_run(scores: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """What `run.json` says that the shards of a run hold, for readers without mfsynth.

    Args:
        scores: By name, what is measured, in a line.

    Returns:
        `members` of a sample; `columns` of the index and `reject_columns` of the rejects.
    """
    members = [
        {"name": name, "suffix": member.suffix, "meaning": member.meaning}
        for name, member in MEMBERS.items()
    ]
    checks = [
        _described(f"{SCORE_PREFIX}{name}", "float64", note or "score of a check", True)
        for name, note in scores.items()
    ]
    return {
        "members": members,
        "columns": [*(column.describe() for column in _INDEX), *checks],
        "reject_columns": [*(column.describe() for column in _REJECTS), *checks],
    }


def has_columns(schema: pa.Schema, columns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a schema is the one that `run.json` describes.

    Types that a later mfsynth has invented are taken for right.
    """
    return [(field.name, field.nullable) for field in schema] == [
        (column["name"], column.get("nullable")) for column in columns
    ] and all(
        field.type == _TYPES.get(column["type"], field.type)
        for field, column in zip(schema, columns, strict=True)
    )


def has_fields(schema: pa.Schema, known: pa.Schema) -> bool:
    """Whether a schema has all fields of another one, whatever else a later mfsynth has added."""
    places = {field.name: schema.get_all_field_indices(field.name) for field in known}
    return all(
        len(places[field.name]) == 1 and schema.field(places[field.name][0]) == field
        for field in known
    )


def index_schema(score_names: Sequence[str]) -> pa.Schema:
    """Schema of `index/*.parquet`; scores are `check_<name>`, float64, null = abstained."""
    return _schema(_INDEX, score_names)


def rejects_schema(score_names: Sequence[str]) -> pa.Schema:
    """Schema of `rejects/*.parquet`; `outcome` is `rejected` or `quarantined`."""
    return _schema(_REJECTS, score_names)


def index_row(placed: PlacedSample) -> dict[str, Any]:
    """The index's row of a sample."""
    return _row(_INDEX, placed, placed.sample.scores)


def reject_row(placed: PlacedReject) -> dict[str, Any]:
    """The rejects' row of a candidate that gave no sample."""
    record = placed.record
    return _row(_REJECTS, placed, record.scores if isinstance(record, Reject) else {})


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as one Parquet file; a column that a row lacks is null."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        # A row group without a row is more than `datasets` can read.
        if len(table):
            writer.write_table(table)


def score_names(schema: pa.Schema) -> list[str]:
    """Names of the scores in a schema, without the prefix."""
    return [n.removeprefix(SCORE_PREFIX) for n in schema.names if n.startswith(SCORE_PREFIX)]


def scores_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Scores in a row of either table, by name; NaN where the check abstained."""
    return {
        name.removeprefix(SCORE_PREFIX): math.nan if value is None else value
        for name, value in row.items()
        if name.startswith(SCORE_PREFIX)
    }


def _schema(columns: Sequence[_Column[Any]], score_names: Sequence[str]) -> pa.Schema:
    fields = [pa.field(c.name, _TYPES[c.type], nullable=c.nullable) for c in columns]
    fields += [pa.field(f"{SCORE_PREFIX}{name}", pa.float64()) for name in score_names]
    return pa.schema(fields, metadata=_METADATA)


def _described(name: str, kind: str, meaning: str, nullable: bool) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": nullable, "meaning": meaning}


def _row(columns: Sequence[_Column[_T]], placed: _T, scores: Mapping[str, float]) -> dict[str, Any]:
    return {column.name: column.value(placed) for column in columns} | {
        # Null, not NaN: it is what every reader of Parquet counts as "no value".
        f"{SCORE_PREFIX}{name}": None if math.isnan(score) else float(score)
        for name, score in scores.items()
    }


def _outcome(record: Reject | Quarantine) -> str:
    return REJECTED if isinstance(record, Reject) else QUARANTINED


def _reasons(record: Reject | Quarantine) -> list[str]:
    return [*record.reasons] if isinstance(record, Reject) else [record.reason]


def _thumbnail(record: Reject | Quarantine) -> bytes | None:
    return record.thumbnail_jpeg if isinstance(record, Reject) else None


def _valid_fraction(sample: Sample) -> float:
    return np.count_nonzero(sample.depth > 0) / sample.depth.size
