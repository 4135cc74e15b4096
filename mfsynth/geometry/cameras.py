"""Pinhole cameras and what a depth map's numbers mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Of a focal length: at a thousand pixels, a thousandth of one.
_NO_SKEW = 1e-6


class DepthKind(StrEnum):
    """What one unit of a z-depth map is. Only the metric kinds may be called metres."""

    SCALE_INVARIANT_Z = "scale_invariant_z"
    METRIC_Z = "metric_z"
    ESTIMATED_METRIC_Z = "estimated_metric_z"
    AFFINE_INVARIANT_Z = "affine_invariant_z"

    @property
    def is_metric(self) -> bool:
        """Whether the unit is the metre."""
        return self in (DepthKind.METRIC_Z, DepthKind.ESTIMATED_METRIC_Z)


class IntrinsicsSource(StrEnum):
    """Where a sample's intrinsics come from, from least to most trustworthy."""

    ASSUMED = "assumed"
    ESTIMATED = "estimated"
    GIVEN = "given"
    RENDERED = "rendered"


class CameraAxes(StrEnum):
    """Which way a program's camera frame points; everything in mfsynth is OpenCV's."""

    OPENCV = "opencv"
    OPENGL = "opengl"
    BLENDER = "blender"
    NED = "ned"
    COPPELIA = "coppelia"

    def to_opencv(self) -> NDArray[np.float64]:
        """The 3x3 rotation that takes coordinates in these axes to x right, y down, z forward."""
        return np.array(_TO_OPENCV[self], np.float64)


def quaternion(turn: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """A rotation as x, y, z, w of a unit quaternion with w >= 0.

    Of one that is none to its last digits it is the closest (Bar-Itzhack, 2000).

    Args:
        turn: float64 (3, 3).
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = turn.tolist()
    found = np.linalg.eigh(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    ).eigenvectors[:, -1]
    x, y, z, w = (found if found[3] >= 0 else -found).tolist()
    return x, y, z, w


_Y_UP_Z_BACK = ((1, 0, 0), (0, -1, 0), (0, 0, -1))
_TO_OPENCV: Final = {
    CameraAxes.OPENCV: ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    CameraAxes.OPENGL: _Y_UP_Z_BACK,
    CameraAxes.BLENDER: _Y_UP_Z_BACK,
    # x forward, y right, z down.
    CameraAxes.NED: ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    # x left, y up, z forward.
    CameraAxes.COPPELIA: ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
}


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A pinhole camera without distortion.

    All values are pixels. Pixel centres have integer coordinates, so that the centre of an image
    of width W and height H is ((W - 1) / 2, (H - 1) / 2); axes are OpenCV's: x right, y down,
    z forward.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(value) for value in values):
            raise ValueError(f"intrinsics must be finite, got {values}")
        if self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"focal lengths must be positive, got fx={self.fx}, fy={self.fy}")

    @classmethod
    def from_vertical_fov(cls, height: int, width: int, fov_degrees: float) -> Intrinsics:
        """A centred camera with square pixels.

        Args:
            height: Image height in pixels.
            width: Image width in pixels.
            fov_degrees: Angle between the upper edge of the first row and the lower edge of the
                last one, in (0, 180) degrees.

        Raises:
            ValueError: The size or the angle is out of range.
        """
        return cls._centred(height, width, height, fov_degrees)

    @classmethod
    def from_horizontal_fov(cls, height: int, width: int, fov_degrees: float) -> Intrinsics:
        """A centred camera with square pixels.

        Args:
            height: Image height in pixels.
            width: Image width in pixels.
            fov_degrees: Angle between the left edge of the first column and the right edge of the
                last one, in (0, 180) degrees.

        Raises:
            ValueError: The size or the angle is out of range.
        """
        return cls._centred(height, width, width, fov_degrees)

    @classmethod
    def _centred(cls, height: int, width: int, across: int, fov_degrees: float) -> Intrinsics:
        if height < 1 or width < 1:
            raise ValueError(f"an image has at least one pixel, got {height}x{width}")
        if not 0 < fov_degrees < 180:
            raise ValueError(f"the field of view must be in (0, 180) degrees, got {fov_degrees}")
        focal = 0.5 * across / math.tan(math.radians(fov_degrees) / 2)
        return cls(fx=focal, fy=focal, cx=(width - 1) / 2, cy=(height - 1) / 2)

    @classmethod
    def from_matrix(
        cls, matrix: NDArray[np.floating], axes: CameraAxes = CameraAxes.OPENCV
    ) -> Intrinsics:
        """The camera of a 3x3 matrix K without skew; what calculations leave of one is none.

        Args:
            matrix: K.
            axes: Of the coordinates that it takes to pixels, which decide the signs of focal
                lengths: both are negative in CoppeliaSim's. A matrix with positive ones is taken
                as it is, for many programs write it so whatever their axes are.

        Raises:
            ValueError: The matrix isn't 3x3, has skew, its last row isn't (0, 0, 1), or its focal
                lengths are not those of the axes.
        """
        k = np.asarray(matrix, dtype=np.float64)
        if k.shape != (3, 3):
            raise ValueError(f"an intrinsic matrix is 3x3, got {k.shape}")
        if k[0, 0] < 0 or k[1, 1] < 0 or not np.array_equal(k[2], (0, 0, 1)):
            turned = k @ axes.to_opencv().T
            # The sign alone: a matrix of another scale is no camera of these axes either.
            k = turned * (np.sign(turned[2, 2]) or 1)
        skew = max(abs(k[0, 1]), abs(k[1, 0]))
        has_skew = not skew <= _NO_SKEW * np.abs(k[:2, :2]).max()
        if has_skew or not np.allclose(k[2], (0, 0, 1), rtol=0, atol=_NO_SKEW):
            raise ValueError("an intrinsic matrix here has no skew and ends with the row (0, 0, 1)")
        if k[0, 0] < 0 or k[1, 1] < 0:
            raise ValueError(
                f"focal lengths must be positive, got fx={k[0, 0]}, fy={k[1, 1]}, which are not "
                f"those of {axes} axes; CoppeliaSim's are both negative"
            )
        return cls(fx=float(k[0, 0]), fy=float(k[1, 1]), cx=float(k[0, 2]), cy=float(k[1, 2]))

    def matrix(self) -> NDArray[np.float64]:
        """The 3x3 matrix K that takes camera coordinates to homogeneous pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    def horizontal_fov(self, width: int) -> float:
        """Degrees between the left edge of the first and the right edge of the last column."""
        return _angle_between(-0.5 - self.cx, width - 0.5 - self.cx, self.fx)

    def vertical_fov(self, height: int) -> float:
        """Degrees between the upper edge of the first and the lower edge of the last row."""
        return _angle_between(-0.5 - self.cy, height - 0.5 - self.cy, self.fy)

    def resized(self, scale_y: float, scale_x: float) -> Intrinsics:
        """The camera after the image was resized by the factors (area-aligned, as in OpenCV).

        Resizing keeps pixel *edges* aligned, so a centre c moves to (c + 1/2) · scale - 1/2.
        """
        return Intrinsics(
            fx=self.fx * scale_x,
            fy=self.fy * scale_y,
            cx=(self.cx + 0.5) * scale_x - 0.5,
            cy=(self.cy + 0.5) * scale_y - 0.5,
        )

    def from_half_centres(self) -> Intrinsics:
        """The same camera, if its principal point counts pixel centres from (1/2, 1/2)."""
        return replace(self, cx=self.cx - 0.5, cy=self.cy - 0.5)

    def turned(self, quarters: int, height: int, width: int) -> Intrinsics:
        """The camera after the image (height, width) was turned clockwise by quarters."""
        camera = self
        for _ in range(quarters % 4):
            camera = Intrinsics(camera.fy, camera.fx, height - 1 - camera.cy, camera.cx)
            height, width = width, height
        return camera

    def mirrored(self, width: int) -> Intrinsics:
        """The camera of the image, of this width, turned left to right: of the mirrored world."""
        return replace(self, cx=width - 1 - self.cx)

    def cropped(self, top: float, left: float) -> Intrinsics:
        """The camera after `top` rows and `left` columns were cut off."""
        return Intrinsics(fx=self.fx, fy=self.fy, cx=self.cx - left, cy=self.cy - top)


def _angle_between(first: float, last: float, focal: float) -> float:
    return math.degrees(math.atan2(last, focal) - math.atan2(first, focal))
