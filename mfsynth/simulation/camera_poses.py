"""Camera poses that frame a scene's objects."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry import Intrinsics


@dataclass(frozen=True, slots=True, eq=False)
class CameraPose:
    """Where a camera is.

    Attributes:
        position: float64 (3,), metres, world axes (z up).
        rotation: float64 (3, 3), columns are the camera's x (right), y (down) and z (forward)
            axes in world axes, so that world = rotation @ camera + position.
    """

    position: NDArray[np.float64]
    rotation: NDArray[np.float64]

    @classmethod
    def looking_at(
        cls, target: NDArray[np.float64], azimuth: float, elevation: float, distance: float
    ) -> CameraPose:
        """A level camera on a sphere around a target.

        Args:
            target: (3,) metres, in the middle of the image.
            azimuth: Degrees about the vertical, from the x axis.
            elevation: Degrees above the horizon, less than 90.
            distance: Metres from the target.
        """
        a, e = math.radians(azimuth), math.radians(elevation)
        x, y, z = math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)
        right_x, right_y = -math.sin(a), math.cos(a)
        # Columns: right, down = forward × right, forward. Many cameras are tried for each scene,
        # and numpy's cross product takes as long as all else of them.
        rotation = np.array(
            [
                [right_x, z * right_y, -x],
                [right_y, -z * right_x, -y],
                [0.0, y * right_x - x * right_y, -z],
            ]
        )
        outward = np.array([x, y, z])
        return cls(np.asarray(target, dtype=np.float64) + distance * outward, rotation)

    def moved(self, right: float, down: float, forward: float) -> CameraPose:
        """A camera that looks the same way from elsewhere; metres along this one's axes."""
        return CameraPose(
            self.position + self.rotation @ np.array([right, down, forward]), self.rotation
        )

    def rolled(self, degrees: float) -> CameraPose:
        """A camera at the same place, turned about its axis by the clock."""
        if not degrees:
            return self
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        return CameraPose(self.position, self.rotation @ turn)

    def camera_to_world(self) -> NDArray[np.float64]:
        """The rigid transform as a 4x4 matrix."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation
        matrix[:3, 3] = self.position
        return matrix

    def to_camera(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """World points (..., 3) in camera axes."""
        moved: NDArray[np.float64] = (
            np.asarray(points, np.float64) - self.position
        ) @ self.rotation
        return moved


def fitting_distance(
    points: NDArray[np.float64],
    target: NDArray[np.float64],
    azimuth: float,
    elevation: float,
    intrinsics: Intrinsics,
    height: int,
    width: int,
    margin: float,
) -> float:
    """How far from a target a camera must be to see all points.

    Args:
        points: (N, 3) world points, metres.
        target: What the camera looks at.
        azimuth: As in `CameraPose.looking_at`.
        elevation: As in `CameraPose.looking_at`.
        intrinsics: A centred camera.
        height: Rows of the image.
        width: Columns of the image.
        margin: Share of the half frame that stays free at each edge, in [0, 1).

    Returns:
        Metres; the smallest such distance.
    """
    seen = CameraPose.looking_at(target, azimuth, elevation, 0.0).to_camera(points)
    slope_x = (1 - margin) * width / 2 / intrinsics.fx
    slope_y = (1 - margin) * height / 2 / intrinsics.fy
    needed = np.maximum(np.abs(seen[:, 0]) / slope_x, np.abs(seen[:, 1]) / slope_y) - seen[:, 2]
    return float(needed.max())


def nearest_pose(
    points: NDArray[np.float64],
    azimuth: float,
    elevation: float,
    intrinsics: Intrinsics,
    height: int,
    width: int,
    margin: float,
) -> CameraPose:
    """The nearest camera of a direction that sees all points, in the middle of its frame.

    Args:
        points: (N, 3) world points, metres.
        azimuth: As in `CameraPose.looking_at`.
        elevation: As in `CameraPose.looking_at`.
        intrinsics: A centred camera.
        height: Rows of the image.
        width: Columns of the image.
        margin: As in `fitting_distance`.
    """
    rotation = CameraPose.looking_at(np.zeros(3), azimuth, elevation, 0.0).rotation
    seen = points @ rotation
    slopes = (1 - margin) * np.array([width / intrinsics.fx, height / intrinsics.fy]) / 2
    # Along each axis the frame's two edges are lines through the camera: it lies behind the
    # crossing of those that just touch the points.
    reach = slopes * seen[:, 2:]
    low, high = (seen[:, :2] + reach).min(axis=0), (seen[:, :2] - reach).max(axis=0)
    x, y = (low + high) / 2
    z = ((low - high) / (2 * slopes)).min()
    return CameraPose(rotation @ np.array([x, y, z]), rotation)
