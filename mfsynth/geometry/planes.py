"""Planes in depth maps, and from the ground which way is down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.cameras import Intrinsics
from mfsynth.geometry.normals import normals_from_depth
from mfsynth.geometry.projection import backproject
from mfsynth.geometry.rgbd import DepthMap, Mask

TOLERANCE: Final = 0.01
"""Distance from a plane at which a point still belongs to it, as a share of the point's depth."""
MIN_SHARE: Final = 0.1
"""Of the valid pixels that a plane has at least."""

# Normals over 7 rows and columns: with noise of 1 % they are off by about 10 degrees at 256 pixels.
_RADIUS = 3
_MIN_COSINE = math.cos(math.radians(30))
_POINTS = 2500
_DRAWS = 400
_REFINEMENTS = 3
# A camera's ground faces up by this much at least; what faces the camera alone may be a wall.
_MIN_UP = math.sin(math.radians(15))
_PLANES_FOR_GROUND = 4


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """A plane that a depth map sees: the points p with normal · p + distance = 0.

    Attributes:
        normal: float64 (3,), of length 1, OpenCV camera axes, towards the camera.
        distance: From the camera, positive, in the unit of the depth.
        pixels: bool (H, W): those that belong to it.
        residual: Root mean square of these pixels' distances from it, as shares of their depths.
    """

    normal: NDArray[np.float64]
    distance: float
    pixels: Mask
    residual: float


def find_planes(
    depth: DepthMap,
    intrinsics: Intrinsics,
    *,
    count: int = 1,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    min_share: float = MIN_SHARE,
) -> list[Plane]:
    """The largest planes of a depth map, the largest first; a pixel belongs to one at most.

    Seeded RANSAC over three points each, then least squares over what belongs to the best. A pixel
    belongs to a plane if it lies on it, and its normal, where it has one, is the plane's within 30
    degrees. The same map, camera and seed give the same planes; so does the map in another unit.

    Args:
        depth: (H, W) z-depth in any unit; what isn't positive and finite is invalid.
        intrinsics: The camera.
        count: How many planes at most.
        seed: Of the draws.
        tolerance: See `TOLERANCE`.
        min_share: See `MIN_SHARE`.

    Returns:
        Between none and `count` planes.
    """
    valid = np.isfinite(depth) & (depth > 0)
    if not valid.any():
        return []
    surface = _Surface.of(depth, intrinsics, valid)
    free, planes = valid.copy(), list[Plane]()
    wanted = max(3, min_share * np.count_nonzero(valid))
    rng = np.random.default_rng(seed)
    for _ in range(count):
        plane = _largest(surface, free, rng, tolerance)
        if plane is None or np.count_nonzero(plane.pixels) < wanted:
            break
        planes.append(plane)
        free &= ~plane.pixels
    return planes


def gravity_direction(
    depth: DepthMap, intrinsics: Intrinsics, *, seed: int = 0
) -> NDArray[np.float64] | None:
    """Which way is down: against the normal of the ground, or of a table.

    The ground is the largest plane that faces up in the image by 15 degrees at least, as it does
    for a camera that is held upright and looks down at it, but not straight down: a plane that
    faces the camera head-on may as well be a wall.

    Args:
        depth: (H, W) z-depth in any unit; what isn't positive and finite is invalid.
        intrinsics: The camera.
        seed: Of the search.

    Returns:
        float64 (3,), of length 1, OpenCV camera axes; None where no plane is the ground.
    """
    planes = find_planes(depth, intrinsics, count=_PLANES_FOR_GROUND, seed=seed)
    down = (-plane.normal for plane in planes if plane.normal[1] <= -_MIN_UP)
    return next(down, None)


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """What of a map's pixels (..., 3) planes are made of; `oriented` where there is a normal."""

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    oriented: Mask

    @classmethod
    def of(cls, depth: DepthMap, intrinsics: Intrinsics, valid: Mask) -> _Surface:
        normals = normals_from_depth(depth, intrinsics, radius=_RADIUS)
        x, y, z = np.moveaxis(normals, -1, 0)
        points = backproject(depth, intrinsics)
        return cls(np.where(valid[..., None], points, 0), normals, (x != 0) | (y != 0) | (z != 0))

    def at(self, pixels: NDArray[np.intp]) -> _Surface:
        """Only the pixels of these numbers."""
        points, normals = self.points.reshape(-1, 3)[pixels], self.normals.reshape(-1, 3)[pixels]
        return _Surface(points, normals, self.oriented.reshape(-1)[pixels])

    def belonging(self, normal: NDArray[np.float64], distance: float, tolerance: float) -> Mask:
        """What belongs to a plane."""
        normal = normal.astype(np.float32)
        off = np.abs(self.points @ normal + np.float32(distance))
        alike = self.normals @ normal >= _MIN_COSINE
        return np.asarray((off <= tolerance * self.points[..., 2]) & (alike | ~self.oriented))


def _largest(
    surface: _Surface, free: Mask, rng: np.random.Generator, tolerance: float
) -> Plane | None:
    # Only what has a normal: elsewhere are edges, which no plane is made of.
    candidates = np.flatnonzero(free & surface.oriented)
    if candidates.size < 3:
        return None
    some = surface.at(rng.choice(candidates, min(_POINTS, candidates.size), replace=False))
    points = some.points.astype(np.float64)
    corners = points[rng.integers(0, len(points), (_DRAWS, 3))]
    raw = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(raw, axis=1)
    real = length > 0
    if not real.any():
        return None
    units = raw[real] / length[real, None]
    distances = -np.einsum("ij,ij->i", units, corners[real, 0])
    units, distances = units * np.sign(distances)[:, None], np.abs(distances)
    # In single precision and in place: this is nearly all of the time that planes take.
    planes = np.column_stack([units, distances]).astype(np.float32)
    shares = (np.column_stack([points, np.ones(len(points))]) / points[:, 2:]).astype(np.float32)
    off = planes @ shares.T
    on = np.abs(off, out=off) <= np.float32(tolerance)
    on &= planes[:, :3] @ some.normals.T >= np.float32(_MIN_COSINE)
    best = int(np.count_nonzero(on, axis=1).argmax())
    normal, distance = units[best], float(distances[best])
    for _ in range(_REFINEMENTS):
        mine = some.belonging(normal, distance, tolerance)
        if np.count_nonzero(mine) < 3:
            return None
        normal, distance = _fitted(points[mine])
    pixels = free & surface.belonging(normal, distance, tolerance)
    if not pixels.any():
        return None
    own = surface.points[pixels].astype(np.float64)
    off = (own @ normal + distance) / own[:, 2]
    return Plane(normal, distance, pixels, float(np.sqrt(np.mean(off**2))))


def _fitted(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Normal towards the camera and distance of the plane with the least squares of residuals.

    Residuals are shares of the depth, as sensors' and models' errors are.
    """
    weights = 1 / points[:, 2:]
    middle = np.sum(points * weights**2, axis=0) / np.sum(weights**2)
    _, _, rows = np.linalg.svd((points - middle) * weights, full_matrices=False)
    normal = rows[-1]
    distance = -float(normal @ middle)
    return (-normal, -distance) if distance < 0 else (normal, distance)
