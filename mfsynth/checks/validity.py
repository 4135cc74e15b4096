"""Validity of a depth map on its own: how much of it is there, how far and how varied."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Failure, Score
from mfsynth.config.base import Fraction

FAR_CONTRACTED = 1.99
"""A contracted depth from here up counts as lying at the far bound of the model."""

_MIN_VALID_PIXELS = 16
"""Fewer valid pixels than this say nothing about range or far bound."""


class Validity(Check):
    """Limits on the depth map as such.

    Attributes:
        min_valid_fraction: Least share of pixels with a depth.
        max_far_fraction: Greatest share of the valid pixels at the model's far bound.
        min_dynamic_range: Least ratio of the 98th to the 2nd percentile of depth.
    """

    min_valid_fraction: Fraction = 0.5
    max_far_fraction: Fraction = 0.005
    min_dynamic_range: Annotated[float, Field(ge=1)] = 1.3

    inputs = ("depth",)
    scores = (
        Score(
            name="valid_fraction",
            label="valid depth",
            direction="higher",
            note="share of pixels that have a depth",
            limit="min_valid_fraction",
        ),
        Score(
            name="far_fraction",
            label="at far bound",
            direction="lower",
            note="share of valid pixels at the far bound of the model",
            limit="max_far_fraction",
        ),
        Score(
            name="dynamic_range",
            label="dynamic range",
            direction="higher",
            note="98th over 2nd percentile of depth",
            limit="min_dynamic_range",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """All three scores."""
        return {
            "valid_fraction": valid_fraction(pair.depth),
            "far_fraction": far_fraction(pair.depth),
            "dynamic_range": dynamic_range(pair.depth),
        }

    def failures(self, pair: CheckedPair, scores: Mapping[str, float]) -> Iterator[Failure]:
        """The scores beyond their limits; before them, that there are values that are no depth."""
        if malformed_pixels(pair.depth):
            yield Failure("valid_fraction", math.nan, self.min_valid_fraction)
        yield from super().failures(pair, scores)


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
    times the median. The model's own unit is the mean, but pixels at the bound raise the mean so
    much that more than 1 % of them would hide themselves.

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
