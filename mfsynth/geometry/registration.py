"""Depth of one camera carried over to another one beside it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.cameras import Intrinsics
from mfsynth.geometry.rgbd import DepthMap

# A pixel of depth may cover so many of colour, to a side: cameras of eight times the pixels.
_MOST_COVERED = 9
# Pixels down and to the right, so that a centre on the border of two is in one of them, whatever
# rounding says.
_ON_BORDER = np.array([[1e-6], [4e-7]])


def depth_in_camera(
    depth: DepthMap,
    camera: Intrinsics,
    other: Intrinsics,
    pose: NDArray[np.floating],
    shape: tuple[int, int],
) -> DepthMap:
    """The depth map as another camera sees its surfaces, through a z-buffer.

    Each pixel of depth is a square at its depth, which covers the pixels of the other camera whose
    centres it holds, and one at least; of several surfaces the nearest is seen. What only the other
    camera sees stays without depth. Lenses are taken to be without distortion.

    Args:
        depth: (h, w) z-depth, 0 = invalid.
        camera: Of its pixels.
        other: Of the pixels that are wanted.
        pose: 4x4, coordinates of the first camera to those of the other one, in the depth's unit.
        shape: Rows and columns that are wanted.

    Returns:
        float32, z-depth along the other camera's axis, 0 = none.

    Raises:
        ValueError: The pose is no rotation and translation, or a pixel covers too many.
    """
    rotation, translation = _rigid(pose)
    height, width = shape
    rows, columns = np.nonzero(depth > 0)
    z = depth[rows, columns].astype(np.float64)
    corners = np.stack(
        [
            _seen(columns + x, rows + y, z, camera, other, rotation, translation)[0]
            for x, y in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
        ]
    )
    middle, seen_z = _seen(columns + 0.0, rows + 0.0, z, camera, other, rotation, translation)
    # What holds the square, which a rolled camera sees turned.
    low, high = corners.min(axis=0), corners.max(axis=0)
    visible = (seen_z > 0) & np.isfinite(low).all(axis=0)
    visible &= (high > -0.5).all(axis=0) & (low[0] < width) & (low[1] < height)
    corners, low, high, middle, seen_z = (
        part[..., visible] for part in (corners, low, high, middle, seen_z)
    )
    along, down = np.moveaxis(np.roll(corners, -1, axis=0) - corners, 1, 0)
    covered = math.ceil(np.hypot(along, down).max(initial=0))
    if covered > _MOST_COVERED:
        raise ValueError(
            f"a pixel of depth covers {covered} of colour to a side; check both cameras and the "
            "extrinsics"
        )
    centre = np.rint(middle).astype(np.int64)
    first = np.minimum(np.ceil(low - _ON_BORDER).astype(np.int64), centre)
    last = np.maximum(np.floor(high).astype(np.int64), centre)
    # A square holds what is on one side of all its edges; seen from behind, on the other.
    x, y = np.moveaxis(first + _ON_BORDER - corners, 1, 0)
    sides, turn = along * y - down * x, np.sign(along[0] * down[1] - down[0] * along[1])
    nearest = np.full(height * width, np.inf, np.float32)
    for right, lower in np.ndindex(*(last - first).max(axis=1, initial=0) + 1):
        column, row = first[0] + right, first[1] + lower
        held = ((sides + along * lower - down * right) * turn > 0).all(axis=0)
        held |= (column == centre[0]) & (row == centre[1])
        held &= (column >= 0) & (row >= 0) & (column < width) & (row < height)
        pixels = row[held] * width + column[held]
        np.minimum.at(nearest, pixels, seen_z[held].astype(np.float32))
    return np.where(np.isfinite(nearest), nearest, np.float32(0)).reshape(shape)


def _rigid(pose: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    matrix = np.asarray(pose, np.float64)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"a pose is 4x4 or 3x4, got {matrix.shape}")
    rotation, translation = matrix[:3, :3], matrix[:3, 3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise ValueError("no rotation in the pose: its columns are not of length 1 and square")
    if np.linalg.det(rotation) < 0:
        raise ValueError("the pose mirrors, which no two cameras do")
    return rotation, translation


def _seen(
    columns: NDArray[np.floating],
    rows: NDArray[np.floating],
    z: NDArray[np.float64],
    camera: Intrinsics,
    other: Intrinsics,
    rotation: NDArray[np.float64],
    translation: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows (2, N) in the other camera of points, and their depth there (N,)."""
    points = np.stack(
        [(columns - camera.cx) / camera.fx * z, (rows - camera.cy) / camera.fy * z, z]
    )
    x, y, seen_z = rotation @ points + translation[:, None]
    with np.errstate(all="ignore"):
        z_or_nan = np.where(seen_z > 0, seen_z, np.nan)
        return np.stack(
            [other.fx * x / z_or_nan + other.cx, other.fy * y / z_or_nan + other.cy]
        ), seen_z
