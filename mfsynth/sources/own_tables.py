"""Depth in mfsynth's own Parquet, read as anybody's: a row says how its own is stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind, Intrinsics
from mfsynth.shards.quantisation import MAX_CODE, DepthEncoding, DepthScale
from mfsynth.sources.own_shards import OwnDepth

# The columns of depth, and those that say what a code of each is.
_DEPTH, _SENSOR, _SENSOR_UNIT = "depth", "sensor_depth", "sensor_unit_per_code"
_SAYING = ("depth_encoding", "depth_unit_per_code", "depth_near", "depth_far", "depth_kind")
_SAID_BY: Final = {_DEPTH: _SAYING, _SENSOR: (*_SAYING, _SENSOR_UNIT)}
_CAMERA = ("fx", "fy", "cx", "cy")
_MORE = ("depth_unit", "intrinsics_source")


def own_columns(depth_key: str | None, known: Collection[str]) -> tuple[str, ...]:
    """Columns that say how one of depth is stored; none where that isn't mfsynth's own.

    Args:
        depth_key: The column of depth; None where there is none.
        known: All columns of the table.
    """
    saying = _SAID_BY.get(depth_key or "", ())
    if not saying or not set(saying) <= set(known):
        return ()
    return tuple(name for name in (*saying, *_CAMERA, *_MORE) if name in known)


def own_depth(
    depth_key: str | None, row: Mapping[str, Any], name: str, *, has_depth: bool
) -> OwnDepth:
    """What a row says of its depth.

    Args:
        depth_key: The column of depth.
        row: `own_columns` of it.
        name: Of the row, for messages.
        has_depth: Whether it has depth in this column.

    Raises:
        MfsynthError: It is not as mfsynth writes it, or its depth has an unknown shift.
    """
    try:
        encoding, kind = _of_sensor(row, has_depth) if depth_key == _SENSOR else _of_depth(row)
        values = [row[key] for key in _CAMERA if row.get(key) is not None]
        camera = Intrinsics(*values) if len(values) == len(_CAMERA) else None
    except (TypeError, ValueError) as error:
        raise MfsynthError(f"{name}: not what mfsynth writes ({error}); restore it") from error
    if kind is DepthKind.AFFINE_INVARIANT_Z:
        raise MfsynthError(f"{name}: depth of the kind {kind} has an unknown shift; use other data")
    return OwnDepth(encoding, kind, camera, row.get("intrinsics_source") or "")


def _of_depth(row: Mapping[str, Any]) -> tuple[DepthEncoding, DepthKind]:
    numbers = (row[key] for key in ("depth_unit_per_code", "depth_near", "depth_far"))
    return DepthEncoding(DepthScale(row["depth_encoding"]), *numbers), DepthKind(row["depth_kind"])


def _of_sensor(row: Mapping[str, Any], has_depth: bool) -> tuple[DepthEncoding, DepthKind]:
    # A pair that a sensor didn't see has no unit either.
    unit = row[_SENSOR_UNIT] or 0.0
    if has_depth and not unit:
        raise ValueError("a sensor's depth without its unit")
    # Of all codes, whichever of them it measured.
    encoding = DepthEncoding(DepthScale.LINEAR, unit, unit, unit * MAX_CODE)
    return encoding, DepthKind.METRIC_Z
