"""From a row of the index to a sample: where its members lie, what they must be, and pixels."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.datasets.frames import Pixels
from mfsynth.datasets.samples import RGBDSample
from mfsynth.geometry import DepthKind, IntrinsicsSource
from mfsynth.shards import codecs
from mfsynth.shards.labels import as_matrix, decode_mask, decode_poses, suffix_of
from mfsynth.shards.layout import ADDED_MEMBERS, OFFSET, members_of
from mfsynth.shards.records import CandidateRef, StoredObject
from mfsynth.shards.tables import scores_of, slots_of

Row = Mapping[str, Any]

_LATER = ("slots", "source", "copy")
_REF = [field.name for field in fields(CandidateRef) if field.name not in _LATER]
PIXELS = ("rgb", "depth")
"""Members that every sample is read with."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where the members of a sample lie in a tar: neighbours, so that they are read at once."""

    start: int
    length: int


class ChangedError(ValueError):
    """A member is not what the index says."""


def labels_of(row: Row) -> tuple[str, ...]:
    """Members of a sample with labels: all that it has but its depth by a sensor and its JSON."""
    named = [*members_of(row)]
    return tuple(
        name
        for name in named
        if name not in (*PIXELS, "sensor", "json") and row[f"{name}{OFFSET}"] is not None
    )


def span_of(row: Row, tar: StoredObject, names: Sequence[str] = PIXELS) -> Span:
    """Where a sample's members lie.

    Args:
        row: Of the index.
        tar: That it is in.
        names: Which members are wanted.

    Raises:
        ValueError: Not in this tar.
    """
    start = end = row["rgb_offset"]
    for name in names:
        offset, size = row[f"{name}_offset"], row[f"{name}_size"]
        if not start <= offset <= offset + size <= tar.size or offset < 0:
            raise ValueError(f"the {name} doesn't lie in its tar")
        end = max(end, offset + size)
    return Span(start, end - start)


def members(row: Row, span: Span, data: bytes, names: Sequence[str] = PIXELS) -> dict[str, bytes]:
    """Members of a sample by their names, out of what was read of its span.

    Raises:
        ChangedError: They are not those of the index.
    """
    if len(data) != span.length:
        raise ChangedError(f"truncated: {row['sample_id']} ends early")
    found = {}
    for name in names:
        offset = row[f"{name}_offset"] - span.start
        member = data[offset : offset + row[f"{name}_size"]]
        if zlib.crc32(member) != row[f"{name}_crc32"]:
            raise ChangedError(f"the {name} of {row['sample_id']} changed (CRC-32 differs)")
        found[name] = member
    return found


def decode(row: Row, files: Mapping[str, bytes], out: Pixels | None = None) -> RGBDSample:
    """The sample of a row and its members.

    Args:
        row: Of the index.
        files: Members by their names; `PIXELS`, and others that are wanted.
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
    depth = codecs.decode_depth(files["depth"], encoding, shape, to_depth)
    others = {n: data for n, data in files.items() if n not in (*PIXELS, *ADDED_MEMBERS)}
    pose = row.get("camera_to_world")
    source = row["intrinsics_source"]
    return RGBDSample(
        ref=CandidateRef(
            **{name: row[name] for name in _REF},
            slots=slots_of(row),
            source=row.get("source"),
            copy=row.get("copy"),
        ),
        rgb=codecs.decode_jpeg(files["rgb"], shape, to_rgb),
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
        camera_to_world=None if pose is None else as_matrix(pose),
        episode=row.get("episode"),
        frame=row.get("frame"),
        timestamp=row.get("timestamp"),
        mask=decode_mask(files["mask"], shape) if "mask" in files else None,
        objects=decode_poses(files["poses"]) if "poses" in files else (),
        others={suffix_of(name): data for name, data in others.items()},
    )


def _intrinsics(row: Row) -> NDArray[np.float64] | None:
    fx, fy, cx, cy = camera = [row[name] for name in ("fx", "fy", "cx", "cy")]
    if fx is None and camera == [None] * 4:
        return None
    if None in camera:
        raise ValueError("its camera lacks a number")
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
