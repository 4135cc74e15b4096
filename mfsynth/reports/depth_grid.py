"""Depth maps as a page carries them: few bytes, and numbers rather than colours.

A code has 12 bits, over the logarithm of depth, so that a step is the same share of whatever depth
it is of. Neighbours are alike, so that their differences, low bytes and then high ones, deflate
well. `templates/depth.js` reads it.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry import Intrinsics
from mfsynth.geometry.colour import colour_range
from mfsynth.geometry.rgbd import DepthMap

LAST_CODE = 4095

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class DepthGrid:
    """A depth map of a pair, sampled at the centres of a grid.

    Attributes:
        width: Columns.
        height: Rows.
        near: Least depth.
        far: Greatest depth.
        colours: Depths at the two ends of the colour map, near and far.
        camera: Focal lengths and principal point, in columns and rows; None if unknown.
        unit: `m`, or "" of relative depth.
        data: Codes: 0 for no depth, 1 to 4095 from `near` to `far`.
    """

    width: int
    height: int
    near: float
    far: float
    colours: tuple[float, float]
    camera: tuple[float, float, float, float] | None
    unit: str
    data: str

    def to_json(self) -> dict[str, Any]:
        """As the page's script reads it."""
        return {
            "width": self.width,
            "height": self.height,
            "near": _short(self.near),
            "far": _short(self.far),
            "colours": [*map(_short, self.colours)],
            "camera": self.camera and [*map(_short, self.camera)],
            "unit": self.unit,
            "data": self.data,
        }


def grid_of(
    depth: DepthMap, intrinsics: NDArray[np.float64] | None, unit: str, longest_side: int
) -> DepthGrid | None:
    """A depth map of at most so many rows and columns; None of a map without depth.

    Args:
        depth: (H, W), 0 = invalid.
        intrinsics: (3, 3); None if unknown.
        unit: As of `DepthGrid`.
        longest_side: Of the grid.
    """
    ends = colour_range(depth)
    if ends is None:
        return None
    small = sampled(depth, longest_side)
    scale_y, scale_x = (small.shape[i] / depth.shape[i] for i in (0, 1))
    valid = np.isfinite(small) & (small > 0)
    known = small[valid].astype(np.float64)
    near, far = (float(known.min()), float(known.max())) if known.size else ends
    codes = np.zeros(small.shape, np.int32)
    span = math.log(far / near) or 1.0
    codes[valid] = 1 + np.round(np.log(known / near) / span * (LAST_CODE - 1)).astype(np.int32)
    camera = None
    if intrinsics is not None:
        k = Intrinsics.from_matrix(intrinsics).resized(scale_y, scale_x)
        camera = (k.fx, k.fy, k.cx, k.cy)
    height, width = small.shape
    return DepthGrid(width, height, near, far, ends, camera, unit, packed(codes))


def sampled(image: NDArray[_T], longest_side: int) -> NDArray[_T]:
    """An image (H, W, …) of fewer pixels, each one of it: nothing is mixed across an edge."""
    scale = min(1.0, longest_side / max(image.shape[:2]))
    rows, columns = (_centres(size, max(1, round(size * scale))) for size in image.shape[:2])
    return image[np.ix_(rows, columns)]


def _centres(size: int, count: int) -> NDArray[np.intp]:
    return ((np.arange(count) + 0.5) * (size / count)).astype(np.intp)


def packed(codes: NDArray[np.int32]) -> str:
    """Codes (H, W) as text: differences to the left, of the first column to above; deflated."""
    steps = codes.copy()
    steps[:, 1:] -= codes[:, :-1]
    steps[1:, 0] -= codes[:-1, 0]
    words = steps.astype(np.uint16).ravel()
    planes = np.concatenate([words & 0xFF, words >> 8]).astype(np.uint8)
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")


def _short(number: float) -> float:
    return float(f"{number:.6g}")
