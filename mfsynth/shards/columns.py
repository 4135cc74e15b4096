"""The columns that the index and the rejects of every run have, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from mfsynth.shards.layout import ADDED_MEMBERS, MEMBERS
from mfsynth.shards.quantisation import FORMULAS, DepthEncoding
from mfsynth.shards.records import CandidateRef, Quarantine, Reject, Sample
from mfsynth.shards.tar import Span

REJECTED = "rejected"
QUARANTINED = "quarantined"
PARTED = "parted_objects"
PARTED_MEANING = "objects whose mask and image part ways: number in the mask, and name"
PHASH = "phash"
PHASH_MEANING = "perceptual hash of the image, 64 bits: near-duplicates differ in few of them"

PREFIXES = ("slot_", "check_")
"""Of the columns of a run's slots and of its scores."""

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
        phash: `perceptual_hash` of its image.
        sensor_unit: Metres a code of its sensor's depth; None without.
    """

    sample: Sample
    encoding: DepthEncoding
    shard: int
    row: int
    spans: Mapping[str, Span]
    phash: int
    sensor_unit: float | None = None


@dataclass(frozen=True, slots=True)
class PlacedReject:
    """A candidate that gave no sample.

    Attributes:
        record: What became of it.
        shard: That it is of.
        placed: Where its pixels lie, of a rejected one whose pixels are kept.
    """

    record: Reject | Quarantine
    shard: int
    placed: PlacedSample | None = None


@dataclass(frozen=True, slots=True)
class Column(Generic[_T]):
    """A column of a table whose rows are made of `_T`.

    Attributes:
        name: Of the column.
        type: As `run.json` names it.
        meaning: What stands in it, in a line.
        value: Gives what stands in the row of a `_T`.
        nullable: Whether that may be None.
        in_first_version: Whether runs of format version 1 have it.
        in_every_run: Whether runs have it that don't declare it.
    """

    name: str
    type: str
    meaning: str
    value: Callable[[_T], Any]
    nullable: bool = False
    in_first_version: bool = True
    in_every_run: bool = True


def _camera(name: str, meaning: str) -> Column[PlacedSample]:
    def value(placed: PlacedSample) -> float | None:
        camera = placed.sample.intrinsics
        return None if camera is None else getattr(camera, name)

    return Column(name, "float64", meaning, value, nullable=True)


def _estimated(name: str) -> Column[PlacedSample]:
    def value(placed: PlacedSample) -> float | None:
        camera = placed.sample.estimated_intrinsics
        return None if camera is None else getattr(camera, name)

    return _added(f"estimated_{name}", f"{name} of the camera that an estimator sees", value)


def _added(
    name: str, meaning: str, value: Callable[[PlacedSample], Any], kind: str = "float64"
) -> Column[PlacedSample]:
    return Column(
        name, kind, meaning, value, nullable=True, in_first_version=False, in_every_run=False
    )


def _of_moment(name: str, kind: str, meaning: str) -> Column[PlacedSample]:
    return _added(name, meaning, lambda p: getattr(p.sample.labels.moment, name, None), kind)


_LABELS = (
    _added(
        "camera_to_world",
        "pose of the camera as the source has it: 4x4, row by row, metres, OpenCV axes",
        lambda placed: placed.sample.labels.camera_to_world,
        "list of float64",
    ),
    _added(
        "objects",
        "names of the source's objects, in the order of KEY.poses.json",
        lambda placed: [one.name for one in placed.sample.labels.objects],
        "list of string",
    ),
    _of_moment("episode", "string", "what the source calls the episode that the view is of"),
    _of_moment("frame", "int64", "number of the view in the episode"),
    _of_moment("timestamp", "float64", "seconds in the episode; null where nobody knows"),
)


def _of_source(ref_of: Callable[[_T], CandidateRef]) -> tuple[Column[_T], ...]:
    later = {"in_first_version": False, "in_every_run": False}
    return (
        Column(
            "source",
            "string",
            "what the item is called in the source that the run begins with",
            lambda placed: ref_of(placed).source,
            **later,
        ),
        Column(
            "copy",
            "int64",
            "which of the candidates made of that item, from 0",
            lambda placed: ref_of(placed).copy,
            **later,
        ),
        Column(
            "scene",
            "string",
            "what the item's source says that views of one scene, or frames of one recording, have "
            "in common; null where it doesn't say",
            lambda placed: ref_of(placed).scene,
            nullable=True,
            **later,
        ),
    )


def added_member(member: str, suffix: str) -> tuple[Column[PlacedSample], ...]:
    """Columns of a member that not every sample need have: where it lies."""
    later = {"nullable": True, "in_first_version": False, "in_every_run": False}

    def part(name: str) -> Callable[[PlacedSample], int | None]:
        return lambda placed: getattr(placed.spans.get(member), name, None)

    return (
        Column(
            f"{member}_offset",
            "int64",
            f"first byte of KEY.{suffix} in the tar; null without",
            part("offset"),
            **later,
        ),
        Column(f"{member}_size", "int64", f"bytes of KEY.{suffix}", part("size"), **later),
        Column(f"{member}_crc32", "uint32", f"CRC-32 of KEY.{suffix}", part("crc32"), **later),
    )


def _member(member: str) -> tuple[Column[PlacedSample], ...]:
    suffix = MEMBERS[member].suffix
    return (
        Column(
            f"{member}_offset",
            "int64",
            f"first byte of KEY.{suffix} in the tar",
            lambda placed: placed.spans[member].offset,
        ),
        Column(
            f"{member}_size",
            "int64",
            f"bytes of KEY.{suffix}",
            lambda placed: placed.spans[member].size,
        ),
        Column(
            f"{member}_crc32",
            "uint32",
            f"CRC-32 of KEY.{suffix}",
            lambda placed: placed.spans[member].crc32,
        ),
    )


INDEX: tuple[Column[PlacedSample], ...] = (
    Column(
        "sample_id",
        "string",
        "key of the sample; no other run has it",
        lambda placed: placed.sample.ref.sample_id,
    ),
    Column("shard", "int64", "number of the shard", lambda placed: placed.shard),
    Column("row", "int64", "number of the row in the shard", lambda placed: placed.row),
    Column("prompt", "string", "text of the prompt", lambda placed: placed.sample.ref.prompt),
    Column(
        "prompt_id",
        "string",
        "SHA-256 of the prompt, its first 16 digits",
        lambda placed: placed.sample.ref.prompt_id,
    ),
    Column(
        "candidate",
        "int64",
        "number of the candidate in the run",
        lambda placed: placed.sample.ref.candidate,
    ),
    Column("seed", "int64", "seed of the noise", lambda placed: placed.sample.ref.seed),
    Column("width", "int32", "pixels of a row", lambda placed: placed.sample.rgb.shape[1]),
    Column("height", "int32", "rows of pixels", lambda placed: placed.sample.rgb.shape[0]),
    _camera("fx", "focal length in pixels, along x"),
    _camera("fy", "focal length in pixels, along y"),
    _camera("cx", "principal point in pixels, x; integers are centres of pixels"),
    _camera("cy", "principal point in pixels, y; integers are centres of pixels"),
    Column(
        "intrinsics_source",
        "string",
        "where fx, fy, cx, cy come from: rendered, given, estimated or assumed",
        lambda placed: placed.sample.intrinsics_source and str(placed.sample.intrinsics_source),
        nullable=True,
    ),
    Column(
        "camera",
        "string",
        "preset that the camera is assumed to be; null where it is none",
        lambda placed: placed.sample.camera,
        nullable=True,
        in_first_version=False,
        in_every_run=False,
    ),
    *map(_estimated, ("fx", "fy", "cx", "cy")),
    _added(
        "metres_per_unit",
        "factor that made relative depth metric",
        lambda placed: placed.sample.metres_per_unit,
    ),
    _added(
        "metres_per_unit_error",
        "relative standard error of metres_per_unit; null where it isn't known",
        lambda placed: placed.sample.metres_per_unit_error,
    ),
    Column(
        "depth_encoding",
        "string",
        "; ".join(f"{scale}: {formula}" for scale, formula in FORMULAS.items()),
        lambda placed: str(placed.encoding.scale),
    ),
    Column(
        "depth_unit_per_code",
        "float64",
        "`unit_per_code` of the formula",
        lambda placed: placed.encoding.unit_per_code,
    ),
    Column(
        "depth_near",
        "float64",
        "`near` of the formula: least valid depth; 0 if no pixel is valid",
        lambda placed: placed.encoding.near,
    ),
    Column(
        "depth_far",
        "float64",
        "greatest valid depth; 0 if no pixel is valid",
        lambda placed: placed.encoding.far,
    ),
    Column(
        "depth_kind",
        "string",
        "what the numbers mean; only kinds of metric z are metres",
        lambda placed: str(placed.sample.depth_kind),
    ),
    Column(
        "valid_fraction",
        "float64",
        "share of the pixels that have a depth",
        lambda placed: _valid_fraction(placed.sample),
    ),
    *(column for member in MEMBERS for column in _member(member)),
    *(column for name, m in ADDED_MEMBERS.items() for column in added_member(name, m.suffix)),
    Column(
        "sensor",
        "string",
        "the preset whose sensor would have returned KEY.sensor.png; null without",
        lambda placed: placed.sample.sensor_preset,
        nullable=True,
        in_first_version=False,
        in_every_run=False,
    ),
    _added(
        "sensor_unit_per_code",
        "metres a code of KEY.sensor.png; null without",
        lambda placed: placed.sensor_unit,
    ),
    Column("mode", "string", "what was made of what", lambda placed: placed.sample.mode),
    Column("model_id", "string", "model that made the pair", lambda placed: placed.sample.model_id),
    Column(
        "licence",
        "string",
        "what the pair may be used for, by the licence's short name",
        lambda placed: placed.sample.licence,
        in_first_version=False,
    ),
    Column(
        "digital_source_type",
        "string",
        "how the image came to be, a term of the IPTC",
        lambda placed: placed.sample.digital_source_type,
        in_first_version=False,
    ),
    *_of_source(lambda placed: placed.sample.ref),
    *_LABELS,
    _added(PARTED, PARTED_MEANING, lambda placed: [*placed.sample.parted], "list of string"),
    Column(
        "source_licence",
        "string",
        "what the source's item may be used for, by the licence's short name",
        lambda placed: placed.sample.source_licence,
        in_first_version=False,
        in_every_run=False,
    ),
    Column(
        PHASH,
        "int64",
        PHASH_MEANING,
        lambda placed: placed.phash,
        in_first_version=False,
        in_every_run=False,
    ),
)

ADDED = tuple(column.name for column in INDEX if not column.in_every_run)
"""Columns of the index that a run has if it declares them."""

REJECTS: tuple[Column[PlacedReject], ...] = (
    Column(
        "sample_id",
        "string",
        "key that the sample would have",
        lambda placed: placed.record.ref.sample_id,
    ),
    Column("shard", "int64", "number of the shard", lambda placed: placed.shard),
    Column("prompt", "string", "text of the prompt", lambda placed: placed.record.ref.prompt),
    Column(
        "prompt_id",
        "string",
        "SHA-256 of the prompt, its first 16 digits",
        lambda placed: placed.record.ref.prompt_id,
    ),
    Column(
        "candidate",
        "int64",
        "number of the candidate in the run",
        lambda placed: placed.record.ref.candidate,
    ),
    Column("seed", "int64", "seed of the noise", lambda placed: placed.record.ref.seed),
    Column(
        "outcome",
        "string",
        f"{REJECTED}: a check failed; {QUARANTINED}: it could not be made",
        lambda placed: _outcome(placed.record),
    ),
    Column(
        "reasons",
        "list of string",
        "scores that failed, or why it could not be made",
        lambda placed: _reasons(placed.record),
    ),
    Column(
        "thumbnail",
        "binary",
        "small JPEG of image and depth, where a run keeps them",
        lambda placed: _thumbnail(placed.record),
        nullable=True,
    ),
    *_of_source(lambda placed: placed.record.ref),
    Column(
        PARTED,
        "list of string",
        PARTED_MEANING,
        lambda placed: [*placed.record.parted] if isinstance(placed.record, Reject) else None,
        nullable=True,
        in_first_version=False,
        in_every_run=False,
    ),
    Column(
        PHASH,
        "int64",
        PHASH_MEANING,
        lambda placed: placed.record.phash if isinstance(placed.record, Reject) else None,
        nullable=True,
        in_first_version=False,
        in_every_run=False,
    ),
)


def _of_pixels(column: Column[PlacedSample]) -> Column[PlacedReject]:
    return Column(
        column.name,
        column.type,
        f"{column.meaning}; null without pixels",
        lambda placed: None if placed.placed is None else column.value(placed.placed),
        nullable=True,
        in_first_version=column.in_first_version,
        in_every_run=column.in_every_run,
    )


def of_pixels(columns: Iterable[Column[PlacedSample]]) -> tuple[Column[PlacedReject], ...]:
    """Columns of the index as rejects have them whose pixels are kept."""
    return tuple(map(_of_pixels, columns))


REJECT_PIXELS = of_pixels(
    column for column in INDEX if column.name not in {other.name for other in REJECTS}
)
"""What rejects have beside, where a run keeps their pixels: all else that a sample has."""


def _outcome(record: Reject | Quarantine) -> str:
    return REJECTED if isinstance(record, Reject) else QUARANTINED


def _reasons(record: Reject | Quarantine) -> list[str]:
    return [*record.reasons] if isinstance(record, Reject) else [record.reason]


def _thumbnail(record: Reject | Quarantine) -> bytes | None:
    return record.thumbnail_jpeg if isinstance(record, Reject) else None


def _valid_fraction(sample: Sample) -> float:
    return np.count_nonzero(sample.depth > 0) / sample.depth.size
