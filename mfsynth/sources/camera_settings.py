"""The camera of images or depth maps, as whoever publishes them says it."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mfsynth.config.base import Count, NonEmpty, Pair, Positive, Settings
from mfsynth.geometry import CameraAxes, Intrinsics

# Between two cameras of one view, in widths of the image: calibrations of one camera differ less.
_SAME_CAMERA = 0.01


class CameraSettings(Settings):
    """A pinhole camera, given in one of three ways: fx, fy, cx and cy; fov; or a file.

    Attributes:
        fx: Focal length in pixels.
        fy: Likewise.
        cx: Column of the principal point.
        cy: Row of it.
        fov: Horizontal field of view in degrees, of a centred camera with square pixels.
        file: A file with a 3x3, 3x4 or 4x4 matrix, or 9 numbers; see `Encoding` for its name.
        path: Where in the file it is, if that has more: see `FromMetadata`.
        order: `column` where the numbers of the matrix stand column by column.
        size: Width and height of the images that the numbers are for; of the image's or the depth
            map's own unless given.
        pixel_centre: `half` where the centre of the first pixel is (0.5, 0.5).
        axes: Of the program that the matrix comes from; see `Intrinsics.from_matrix`.
    """

    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    fov: Annotated[float, Field(gt=0, lt=180)] | None = None
    file: NonEmpty | None = None
    path: NonEmpty | None = None
    order: Literal["row", "column"] = "row"
    size: Pair[Count] | None = None
    pixel_centre: Literal["integer", "half"] = "integer"
    axes: Annotated[CameraAxes, Field(strict=False)] = CameraAxes.OPENCV

    @model_validator(mode="after")
    def _is_given_once(self) -> Self:
        numbers = [self.fx, self.fy, self.cx, self.cy]
        given = [any(n is not None for n in numbers), self.fov is not None, self.file is not None]
        if sum(given) != 1:
            raise ValueError("give a camera by fx, fy, cx and cy, by fov, or by file")
        if given[0]:
            if None in numbers:
                raise ValueError("give all of fx, fy, cx and cy")
            width, height = self.size or (1, 1)
            self.intrinsics((height, width), None)
        return self

    @property
    def told(self) -> str:
        """Where it comes from, for people."""
        if self.file is not None:
            return self.file
        return "its field of view" if self.fov is not None else "the settings"

    def intrinsics(self, shape: tuple[int, int], matrix: NDArray[np.float64] | None) -> Intrinsics:
        """The camera of images or depth maps of a shape.

        Args:
            shape: Their rows and columns.
            matrix: What the file has; None without a file.

        Raises:
            ValueError: It is no pinhole camera, or of images of other proportions.
        """
        height, width = shape
        if self.fov is not None:
            focal = 0.5 * width / math.tan(math.radians(self.fov) / 2)
            return Intrinsics(focal, focal, (width - 1) / 2, (height - 1) / 2)
        if matrix is None:
            matrix = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)
        camera = Intrinsics.from_matrix(_three_by_three(matrix, self.order), self.axes)
        if self.pixel_centre == "half":
            camera = camera.from_half_centres()
        if self.size is None:
            return camera
        scale_x, scale_y = width / self.size[0], height / self.size[1]
        if abs(scale_x / scale_y - 1) > 0.02:
            raise ValueError(
                f"the camera is of {self.size[0]}x{self.size[1]} pixels, the images are "
                f"{width}x{height}, of other proportions; give the camera of these images"
            )
        return camera.resized(scale_y, scale_x)


class ExtrinsicsSettings(Settings):
    """Where the colour camera is beside the depth camera: a rotation and a translation.

    Attributes:
        matrix: 4x4 or 3x4, row by row: coordinates of the depth camera to those of the colour
            camera, both with OpenCV's axes.
        file: A file with such a matrix; see `Encoding` for its name.
        path: Where in the file it is, if that has more: see `FromMetadata`.
        order: `column` where the numbers of the matrix stand column by column.
        direction: `colour_to_depth` where it is the other way round.
        metres: A unit of the translation in metres, as .001 for millimetres.
    """

    matrix: Annotated[tuple[float, ...], Field(strict=False)] | None = None
    file: NonEmpty | None = None
    path: NonEmpty | None = None
    order: Literal["row", "column"] = "row"
    direction: Literal["depth_to_colour", "colour_to_depth"] = "depth_to_colour"
    metres: Positive = 1.0

    @model_validator(mode="after")
    def _is_given_once(self) -> Self:
        if (self.matrix is None) == (self.file is None):
            raise ValueError("give extrinsics by matrix or by file")
        if self.matrix is not None:
            self.pose(np.array(self.matrix))
        return self

    def pose(self, matrix: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """4x4, metres, of the depth camera's coordinates to the colour camera's.

        Args:
            matrix: What the file has; None without a file.

        Raises:
            ValueError: It is no such matrix.
        """
        found = np.array(self.matrix, np.float64) if matrix is None else matrix
        if found.size not in (12, 16):
            raise ValueError(f"extrinsics are 3x4 or 4x4, this has {found.size} numbers")
        found = found.reshape(found.size // 4, 4) if found.ndim == 1 else found
        if self.order == "column":
            found = found.reshape(4, -1).T
        if found.shape not in ((3, 4), (4, 4)):
            raise ValueError(f"extrinsics are 3x4 or 4x4, this has {found.shape}")
        pose = np.eye(4)
        pose[:3] = found[:3]
        pose[:3, 3] *= self.metres
        if self.direction == "colour_to_depth":
            pose = np.linalg.inv(pose).astype(np.float64)
        return pose


def differ(one: Intrinsics, of: tuple[int, int], other: Intrinsics, to: tuple[int, int]) -> bool:
    """Whether two cameras see other rays in the same place of their images.

    Args:
        one: A camera.
        of: Rows and columns of its images.
        other: Another.
        to: Likewise.
    """
    scaled = one.resized(to[0] / of[0], to[1] / of[1])
    values = np.array([(c.fx, c.fy, c.cx, c.cy) for c in (scaled, other)])
    return bool(np.abs(values[0] - values[1]).max() > _SAME_CAMERA * to[1])


def _three_by_three(matrix: NDArray[np.float64], order: str) -> NDArray[np.float64]:
    if matrix.size == 9:
        matrix = matrix.reshape(3, 3)
    if order == "column":
        matrix = matrix.T
    if matrix.shape not in ((3, 3), (3, 4), (4, 4)):
        raise ValueError(f"a camera's matrix is 3x3, 3x4 or 4x4, this has {matrix.shape}")
    return matrix[:3, :3]
