"""From a row of the index to a sample: where its members lie, what they must be, and pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from mfsynth.config.limits import Limit
from mfsynth.datasets.frames import Pixels, Shape
from mfsynth.datasets.samples import RGBDSample
from mfsynth.geometry import DepthKind, IntrinsicsSource
from mfsynth.geometry.rgbd import DepthMap
from mfsynth.shards import codecs
from mfsynth.shards.inflating import Bytes
from mfsynth.shards.labels import as_matrix, decode_mask, decode_poses, suffix_of
from mfsynth.shards.layout import ADDED_MEMBERS, OFFSET, members_of
from mfsynth.shards.quantisation import DepthEncoding, DepthScale
from mfsynth.shards.records import CandidateRef, StoredObject
from mfsynth.shards.tables import scores_of, slots_of

Row = Mapping[str, Any]

PIXELS = ("rgb", "depth")
"""Members that every sample is read with."""


class Member(NamedTuple):
    """A member of a sample, and where in its span it lies."""

    name: str
    offset: int
    size: int
    crc32: int


class Span(NamedTuple):
    """Where the members of a sample lie in a tar: neighbours, so that they are read at once."""

    start: int
    length: int
    members: tuple[Member, ...]


class ChangedError(ValueError):
    """A member is not what the index says."""


def labels_of(row: Row) -> tuple[str, ...]:
    """Members of a sample beside image and depth: its depth by a sensor, and labels."""
    named = [*members_of(row)]
    return tuple(
        name
        for name in named
        if name not in (*PIXELS, "json") and row[f"{name}{OFFSET}"] is not None
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
    found = []
    for name in names:
        offset, size = row[f"{name}_offset"], row[f"{name}_size"]
        if not start <= offset <= offset + size <= tar.size or offset < 0:
            raise ValueError(f"the {name} doesn't lie in its tar")
        end = max(end, offset + size)
        found.append(Member(name, offset - start, size, row[f"{name}_crc32"]))
    return Span(start, end - start, tuple(found))


def members(sample_id: str, span: Span, data: Bytes) -> dict[str, memoryview]:
    """Members of a sample by their names, views of what was read of its span.

    Raises:
        ChangedError: They are not those of the index.
    """
    if len(data) != span.length:
        raise ChangedError(f"truncated: {sample_id} ends early")
    found = {}
    whole = memoryview(data)
    for name, offset, size, crc32 in span.members:
        member = whole[offset : offset + size]
        if isal_zlib.crc32(member) != crc32:
            raise ChangedError(f"the {name} of {sample_id} changed (CRC-32 differs)")
        found[name] = member
    return found


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
    pose = row.get("camera_to_world")
    return RGBDSample(
        ref=CandidateRef(
            row["sample_id"],
            row["candidate"],
            row["seed"],
            row["prompt"],
            row["prompt_id"],
            slots_of(row),
            row.get("source"),
            row.get("copy"),
            row.get("scene"),
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
        source_licence=row.get("source_licence"),
        camera_to_world=None if pose is None else as_matrix(pose),
        episode=row.get("episode"),
        frame=row.get("frame"),
        timestamp=row.get("timestamp"),
    )


def encoding_of(row: Row) -> DepthEncoding:
    """Of the codes of a sample's depth.

    Raises:
        ValueError: It is none.
    """
    return DepthEncoding(
        DepthScale(row["depth_encoding"]),
        row["depth_unit_per_code"],
        row["depth_near"],
        row["depth_far"],
    )


def decode_into(pixels: Pixels, encoding: DepthEncoding, jpeg: memoryview, png: memoryview) -> None:
    """Decode the members of a sample into its arrays, whose size they must have.

    Raises:
        ValueError: They are damaged, or don't fit each other.
    """
    shape = pixels.depth.shape
    codecs.decode_depth(png, encoding, shape, pixels.depth)
    codecs.decode_jpeg(jpeg, shape, pixels.rgb)
    np.greater(pixels.depth, 0, out=pixels.valid)


def labelled(row: Row, sample: RGBDSample, files: Mapping[str, memoryview]) -> RGBDSample:
    """A sample with what there is of its labels among its members.

    Raises:
        ValueError: A label is damaged, or doesn't fit the pixels.
    """
    labels = {name: bytes(data) for name, data in files.items() if name not in PIXELS}
    if not labels:
        return sample
    return replace(
        sample,
        sensor=_sensor(row, labels["sensor"], sample.depth.shape) if "sensor" in labels else None,
        mask=decode_mask(labels["mask"], sample.depth.shape) if "mask" in labels else None,
        objects=decode_poses(labels["poses"]) if "poses" in labels else (),
        others={suffix_of(n): data for n, data in labels.items() if n not in ADDED_MEMBERS},
    )


def _sensor(row: Row, png: bytes, shape: tuple[int, int]) -> DepthMap:
    unit = row["sensor_unit_per_code"]
    if not (isinstance(unit, float) and 0 < unit < math.inf):
        raise ValueError("its sensor's depth has no unit")
    return (codecs.decode_codes(png, shape) * unit).astype(np.float32)


def _intrinsics(row: Row) -> NDArray[np.float64] | None:
    fx, fy, cx, cy = camera = [row[name] for name in ("fx", "fy", "cx", "cy")]
    if fx is None and camera == [None] * 4:
        return None
    if None in camera:
        raise ValueError("its camera lacks a number")
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
