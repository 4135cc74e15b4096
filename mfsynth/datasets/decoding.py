"""From a row of the index to a sample: where its members lie, what they must be, and pixels."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.datasets.frames import Pixels
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


def members(row: Row, span: Span, data: bytes) -> tuple[bytes, bytes]:
    """JPEG and PNG of a sample, out of what was read of its span.

    Raises:
        ChangedError: They are not those of the index.
    """
    if len(data) != span.length:
        raise ChangedError(f"truncated: {row['sample_id']} ends early")
    found = []
    for name in _MEMBERS:
        offset = row[f"{name}_offset"] - span.start
        member = data[offset : offset + row[f"{name}_size"]]
        if zlib.crc32(member) != row[f"{name}_crc32"]:
            raise ChangedError(f"the {name} of {row['sample_id']} changed (CRC-32 differs)")
        found.append(member)
    return found[0], found[1]


def decode(row: Row, jpeg: bytes, png: bytes, out: Pixels | None = None) -> RGBDSample:
    """The sample of a row and its members.

    Args:
        row: Of the index.
        jpeg: Its image.
        png: Its depth.
        out: Arrays for its pixels, of the row's size; None for new ones.

    Raises:
        ValueError: They don't fit each other, or a value of the row is none.
        KeyError: The row lacks a column.
    """
    shape = (row["height"], row["width"])
    encoding = codecs.DepthEncoding(
        codecs.DepthScale(row["depth_encoding"]),
        row["depth_unit_per_code"],
        row["depth_near"],
        row["depth_far"],
    )
    to_rgb, to_depth, to_valid = (None, None, None) if out is None else out
    depth = codecs.decode_depth(png, encoding, shape, to_depth)
    source = row["intrinsics_source"]
    return RGBDSample(
        ref=CandidateRef(
            **{name: row[name] for name in _REF},
            slots=slots_of(row),
            source=row.get("source"),
            copy=row.get("copy"),
        ),
        rgb=codecs.decode_jpeg(jpeg, shape, to_rgb),
        depth=depth,
        valid=np.greater(depth, 0, out=to_valid),
        intrinsics=_intrinsics(row),
        intrinsics_source=None if source is None else IntrinsicsSource(source),
        camera=row.get("camera"),
        depth_kind=DepthKind(row["depth_kind"]),
        scores=scores_of(row),
        mode=row["mode"],
        model_id=row["model_id"],
        licence=row.get("licence"),
        source_licence=row.get("source_licence"),
    )


def _intrinsics(row: Row) -> NDArray[np.float64] | None:
    fx, fy, cx, cy = camera = [row[name] for name in ("fx", "fy", "cx", "cy")]
    if fx is None and camera == [None] * 4:
        return None
    if None in camera:
        raise ValueError("its camera lacks a number")
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
