"""From a row of the index to a sample: where its members lie, what they must be, and pixels."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.config.limits import Limit
from mfsynth.datasets.frames import Pixels, Shape
from mfsynth.datasets.samples import RGBDSample
from mfsynth.geometry import DepthKind, IntrinsicsSource
from mfsynth.shards import codecs
from mfsynth.shards.records import CandidateRef, StoredObject
from mfsynth.shards.tables import scores_of, slots_of

Row = Mapping[str, Any]

_LATER = ("slots", "source", "copy")
_REF = [field.name for field in fields(CandidateRef) if field.name not in _LATER]
_MEMBERS = ("rgb", "depth")


@dataclass(frozen=True, slots=True)
class Span:
    """Where the members of a sample lie in a tar: neighbours, so that they are read at once."""

    start: int
    length: int


class ChangedError(ValueError):
    """A member is not what the index says."""


def span_of(row: Row, tar: StoredObject) -> Span:
    """Where a sample's members lie.

    Raises:
        ValueError: Not in this tar.
    """
    for name in _MEMBERS:
        offset, size = row[f"{name}_offset"], row[f"{name}_size"]
        if not row["rgb_offset"] <= offset <= offset + size <= tar.size or offset < 0:
            raise ValueError(f"the {name} doesn't lie in its tar")
    start = row["rgb_offset"]
    return Span(start, row["depth_offset"] + row["depth_size"] - start)


def members(row: Row, span: Span, data: bytes) -> tuple[memoryview, memoryview]:
    """JPEG and PNG of a sample, views of what was read of its span.

    Raises:
        ChangedError: They are not those of the index.
    """
    if len(data) != span.length:
        raise ChangedError(f"truncated: {row['sample_id']} ends early")
    found = []
    whole = memoryview(data)
    for name in _MEMBERS:
        offset = row[f"{name}_offset"] - span.start
        member = whole[offset : offset + row[f"{name}_size"]]
        if zlib.crc32(member) != row[f"{name}_crc32"]:
            raise ChangedError(f"the {name} of {row['sample_id']} changed (CRC-32 differs)")
        found.append(member)
    return found[0], found[1]


def shape_of(row: Row) -> Shape:
    """Rows and columns of a sample."""
    return row["height"], row["width"]


def room_for(row: Row) -> Pixels:
    """New arrays for the pixels of a sample.

    Raises:
        ValueError: It has no size, or too large a one.
    """
    height, width = shape = shape_of(row)
    if min(shape) <= 0 or height * width > Limit.PIXELS.most:
        raise ValueError(f"is {width}x{height}, more pixels than {Limit.PIXELS.variable}, or none")
    return Pixels(
        np.empty((*shape, 3), np.uint8), np.empty(shape, np.float32), np.empty(shape, np.bool_)
    )


def described(row: Row, pixels: Pixels) -> RGBDSample:
    """The sample of a row, in whose arrays `decode_into` puts the pixels.

    Raises:
        ValueError: A value of the row is none.
        KeyError: The row lacks a column.
    """
    source = row["intrinsics_source"]
    return RGBDSample(
        ref=CandidateRef(
            **{name: row[name] for name in _REF},
            slots=slots_of(row),
            source=row.get("source"),
            copy=row.get("copy"),
        ),
        rgb=pixels.rgb,
        depth=pixels.depth,
        valid=pixels.valid,
        intrinsics=_intrinsics(row),
        intrinsics_source=None if source is None else IntrinsicsSource(source),
        camera=row.get("camera"),
        depth_kind=DepthKind(row["depth_kind"]),
        scores=scores_of(row),
        mode=row["mode"],
        model_id=row["model_id"],
        licence=row.get("licence"),
    )


def encoding_of(row: Row) -> codecs.DepthEncoding:
    """Of the codes of a sample's depth.

    Raises:
        ValueError: It is none.
    """
    return codecs.DepthEncoding(
        codecs.DepthScale(row["depth_encoding"]),
        row["depth_unit_per_code"],
        row["depth_near"],
        row["depth_far"],
    )


def decode_into(
    pixels: Pixels, encoding: codecs.DepthEncoding, jpeg: memoryview, png: memoryview
) -> None:
    """Decode the members of a sample into its arrays, whose size they must have.

    Raises:
        ValueError: They are damaged, or don't fit each other.
    """
    shape = pixels.depth.shape
    codecs.decode_depth(png, encoding, shape, pixels.depth)
    codecs.decode_jpeg(jpeg, shape, pixels.rgb)
    np.greater(pixels.depth, 0, out=pixels.valid)


def _intrinsics(row: Row) -> NDArray[np.float64] | None:
    fx, fy, cx, cy = camera = [row[name] for name in ("fx", "fy", "cx", "cy")]
    if fx is None and camera == [None] * 4:
        return None
    if None in camera:
        raise ValueError("its camera lacks a number")
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
