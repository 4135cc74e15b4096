"""Predictions brought to the ground truth in what they leave open."""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry import (
    affine_least_squares,
    depth_from_disparity_fit,
    disparity_least_squares,
    scale_l1,
    scale_median,
)

Value = TypeVar("Value", bound=np.generic)
Alignment = Literal["scale", "affine", "disparity", "median"]


def align(
    prediction: NDArray[np.floating],
    truth: NDArray[np.floating],
    valid: NDArray[np.bool_],
    alignment: Alignment,
    solve_side: int | None = None,
) -> NDArray[np.floating]:
    """Fit a predicted depth map to the ground truth.

    Args:
        prediction: (H, W) depth in any unit; 0 = invalid.
        truth: (H, W) depth.
        valid: (H, W) bool, where the truth counts.
        alignment: `scale`, the exact L1 minimiser, native to Modality Forcing; `affine`, least
            squares in depth, Marigold's; `disparity`, least squares in 1/depth; `median`, the
            ratio of the medians.
        solve_side: See `Protocol`.

    Returns:
        (H, W) depth in the truth's unit.

    Raises:
        ValueError: No valid pixel has a prediction.
    """
    given = valid & (prediction > 0)
    p, g = (_nearest_copy(part, solve_side) for part in (prediction, truth))
    m = _nearest_copy(given, solve_side)
    match alignment:
        case "scale":
            return prediction * scale_l1(p, g, m)
        case "median":
            return prediction * scale_median(p, g, m)
        case "affine":
            scale, shift = affine_least_squares(p, g, m)
            return prediction * scale + shift
        case "disparity":
            return depth_from_disparity_fit(prediction, *disparity_least_squares(p, g, m))


def _nearest_copy(values: NDArray[Value], side: int | None) -> NDArray[Value]:
    longest = max(values.shape)
    if side is None or longest <= side:
        return values
    rows, columns = (
        (np.arange(round(size * side / longest)) + 0.5) * longest / side for size in values.shape
    )
    return values[rows.astype(np.intp)[:, None], columns.astype(np.intp)]
