"""What each benchmark of monocular depth counts: valid pixels, crops, caps; and alignments.

The figures are those of Marigold (Ke et al., CVPR 2024), whose tables most others follow. Results
of different protocols or alignments aren't comparable, so both are part of every result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.alignment import (
    affine_least_squares,
    depth_from_disparity_fit,
    disparity_least_squares,
    scale_l1,
    scale_median,
)

Value = TypeVar("Value", bound=np.generic)

Alignment = Literal["scale", "affine", "disparity", "median"]
"""What a prediction leaves open, fitted to the ground truth: `scale`, by the exact L1 minimiser,
native to Modality Forcing; `affine`, by least squares in depth, Marigold's; `disparity`, by least
squares in 1/depth; `median`, the ratio of the medians."""

# KITTI's benchmark crop: rows and columns that every drive's images have.
_KITTI_ROWS, _KITTI_COLUMNS = 352, 1216


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a map that counts, in shares of its rows and columns, start to end."""

    top: float
    bottom: float
    left: float
    right: float

    def mask(self, height: int, width: int) -> NDArray[np.bool_]:
        """Bool (height, width); edges are rounded down, as in Garg's and Eigen's crops."""
        inside = np.zeros((height, width), np.bool_)
        rows = slice(int(self.top * height), int(self.bottom * height))
        inside[rows, int(self.left * width) : int(self.right * width)] = True
        return inside


@dataclass(frozen=True, slots=True)
class Protocol:
    """How predictions for one data set are scored.

    Attributes:
        name: As it stands in results.
        nearest: Ground truth is valid above it, in the data set's unit.
        farthest: And below it.
        clip: Aligned predictions are brought into this range; its lower end is above 0.
        window: The part that counts; None for all.
        solve_side: Alignments are solved on a copy whose longer side has at most that many pixels,
            taken by nearest neighbour; None for the map itself.
        least_disparity: Fitted disparities are brought up to it; None for a thousandth of that of
            the median ground truth, whose unit is not known.
        images: How many the data set's published figures are the mean of; None without such.
    """

    name: str
    nearest: float = 0.0
    farthest: float = math.inf
    clip: tuple[float, float] = (1e-6, math.inf)
    window: Window | None = None
    solve_side: int | None = None
    least_disparity: float | None = 1e-3
    images: int | None = None

    def valid(self, truth: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Bool (H, W): which pixels of a ground-truth map (H, W) count."""
        inside = (truth > self.nearest) & (truth < self.farthest)
        return inside if self.window is None else inside & self.window.mask(*truth.shape)

    def align(
        self,
        prediction: NDArray[np.floating],
        truth: NDArray[np.floating],
        valid: NDArray[np.bool_],
        alignment: Alignment,
    ) -> NDArray[np.floating]:
        """Fit a predicted depth map to the ground truth, and clip it.

        Args:
            prediction: (H, W) depth in any unit; 0 = invalid, which is brought to the lower end.
                What a fitted disparity puts at infinity or beyond it is far.
            truth: (H, W) depth.
            valid: (H, W) bool, where the truth counts.
            alignment: What is fitted.

        Returns:
            (H, W) depth in the truth's unit.

        Raises:
            ValueError: No valid pixel has a prediction.
        """
        given = prediction > 0
        p, g = (_nearest_copy(part, self.solve_side) for part in (prediction, truth))
        m = _nearest_copy(valid & given, self.solve_side)
        fitted: NDArray[np.floating]
        match alignment:
            case "scale":
                fitted = prediction * scale_l1(p, g, m)
            case "median":
                fitted = prediction * scale_median(p, g, m)
            case "affine":
                scale, shift = affine_least_squares(p, g, m)
                fitted = prediction * scale + shift
            case "disparity":
                scale, shift = disparity_least_squares(p, g, m)
                least = self.least_disparity or 1e-3 / float(np.median(g[m]))
                fitted = depth_from_disparity_fit(prediction, scale, shift, least)
        return np.where(given, fitted, 0.0).clip(*self.clip)


def _nearest_copy(values: NDArray[Value], side: int | None) -> NDArray[Value]:
    longest = max(values.shape)
    if side is None or longest <= side:
        return values
    at = [
        (np.arange(max(1, round(size * side / longest))) + 0.5) * longest / side
        for size in values.shape
    ]
    # The number of them may have been rounded up.
    rows, columns = (
        places.clip(max=size - 1).astype(np.intp)
        for places, size in zip(at, values.shape, strict=True)
    )
    return values[rows[:, None], columns]


PLAIN: Final = Protocol("plain", least_disparity=None)

# NYUv2's rows 45 to 471 and columns 41 to 601, of 480 × 640: the ends lie half a pixel further,
# so that rounding down gives them back exactly.
_NYU_WINDOW = Window(45.5 / 480, 471.5 / 480, 41.5 / 640, 601.5 / 640)
_EIGEN_WINDOW = Window(0.3324324, 0.91351351, 0.0359477, 0.96405229)

NYU_V2: Final = Protocol("marigold/nyu_v2", 1e-3, 10, (1e-3, 10), _NYU_WINDOW, images=654)
KITTI_EIGEN: Final = Protocol(
    "marigold/kitti_eigen", 1e-5, 80, (1e-5, 80), _EIGEN_WINDOW, images=652
)
ETH3D: Final = Protocol(
    "marigold/eth3d", 1e-5, math.inf, (1e-5, math.inf), solve_side=1024, images=454
)
SCANNET: Final = Protocol("marigold/scannet", 1e-3, 10, (1e-3, 10), images=800)
DIODE: Final = Protocol("marigold/diode", 0, math.inf, (0.6, 350), images=771)


def kitti_benchmark_crop(image: NDArray[Value]) -> NDArray[Value]:
    """The bottom centre of an image or map, 352 × 1216; the model sees no more than that.

    Args:
        image: (H, W) or (H, W, 3), at least as large.

    Raises:
        ValueError: It is smaller.
    """
    height, width = image.shape[:2]
    if height < _KITTI_ROWS or width < _KITTI_COLUMNS:
        raise ValueError(
            f"an image of {width}x{height} pixels has no KITTI crop of {_KITTI_COLUMNS}x"
            f"{_KITTI_ROWS}; take the rectified images of the raw recordings"
        )
    left = (width - _KITTI_COLUMNS) // 2
    return image[height - _KITTI_ROWS :, left : left + _KITTI_COLUMNS]
