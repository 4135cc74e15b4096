"""Validity of a depth map on its own: how much of it is there, how far and how varied."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FAR_CONTRACTED = 1.99
"""A contracted depth from here up counts as lying at the far bound of the model."""

_MIN_VALID_PIXELS = 16
"""Fewer valid pixels than this say nothing about range or far bound."""


def valid_mask(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Marks the pixels that hold a depth.

    Args:
        depth: z-depth (H, W), any positive unit; 0 means invalid.

    Returns:
        Mask (H, W): true where the depth is finite and greater than zero.
    """
    return np.isfinite(depth) & (depth > 0)


def malformed_pixels(depth: NDArray[np.float32]) -> int:
    """Counts values that are no depth at all: NaN, infinite or negative (0 is "invalid")."""
    return int(np.count_nonzero(~np.isfinite(depth) | (depth < 0)))


def valid_fraction(depth: NDArray[np.float32]) -> float:
    """Share of pixels with a finite, positive depth, in [0, 1]."""
    return float(np.count_nonzero(valid_mask(depth)) / depth.size)


def far_fraction(depth: NDArray[np.float32]) -> float:
    """Share of valid pixels that the model put at its far bound.

    Depth is divided by the median of its valid pixels and contracted as the model does (z up to
    1, 2 - 1/z beyond); the far bound is a contracted value of 1.99 or more, which is a hundred
    times the median (CHECKS: validity). The model's own unit is the mean, but pixels at the bound
    raise the mean so much that more than 1 % of them would hide themselves.

    Args:
        depth: z-depth (H, W), any positive unit; 0 means invalid.

    Returns:
        Share in [0, 1], not changed by a constant scale; nan (abstain) with fewer than 16 valid
        pixels. It can't see a bound that more than half of the pixels lie at.
    """
    values = depth[valid_mask(depth)].astype(np.float64)
    if values.size < _MIN_VALID_PIXELS:
        return float("nan")
    far = float(np.median(values)) / (2.0 - FAR_CONTRACTED)
    # A hair below the bound, so that a value rounded to float32 still counts.
    return float(np.count_nonzero(values >= far * (1.0 - 1e-6)) / values.size)


def dynamic_range(depth: NDArray[np.float32]) -> float:
    """Ratio of the 98th to the 2nd percentile of the valid depths, at least 1.

    Args:
        depth: z-depth (H, W), any positive unit; 0 means invalid.

    Returns:
        P98 / P2, unit-free; nan (abstain) with fewer than 16 valid pixels.
    """
    values = depth[valid_mask(depth)]
    if values.size < _MIN_VALID_PIXELS:
        return float("nan")
    low, high = np.percentile(values, (2.0, 98.0))
    return float(high) / float(low)
