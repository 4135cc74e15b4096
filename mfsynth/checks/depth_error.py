"""How far an image's depth is from the depth that it was made for.

The image was made for a given depth map, which is stored with it. Whether it shows that depth is
said by an estimate of the depth of the image alone: that of an estimator, or of the model itself.
"""

from __future__ import annotations

import math
from typing import Annotated, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.estimator_agreement import relative_error
from mfsynth.checks.validity import valid_mask
from mfsynth.config.base import Count
from mfsynth.geometry.rgbd import DepthMap, Mask

_Value = TypeVar("_Value", bound=np.generic)

_MIN_PIXELS = 64
# Of the steepest neighbours, as `registration` has it.
_EDGE_SHARE = 0.04
_EDGE_PIXELS = 2
_LEAST_STEP = 0.02


class DepthError(Check):
    """Limit on how far the depth of an image is from the depth that it was made for.

    Attributes:
        max: Greatest mean relative difference after scale alignment (AbsRel).
        max_edges: The same of the pixels within two of an edge of the given depth.
        steps: Denoising steps of the model's own depth, where no estimator looks.
    """

    max: Annotated[float, Field(ge=0)] = 0.2
    max_edges: Annotated[float, Field(ge=0)] = 0.5
    steps: Count = 10

    inputs = ("depth", "estimate")
    scores = (
        Score(
            name="depth_error",
            label="depth error",
            direction="lower",
            note="relative difference of the image's estimated depth to the depth it was made for",
            limit="max",
        ),
        Score(
            name="depth_error_edges",
            label="depth error at edges",
            direction="lower",
            note="the same of the pixels within two of an edge of that depth",
            limit="max_edges",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """Both scores, of one alignment by all pixels; nan where too few have both depths.

        Of disparity no pixel counts more than 1, and one that it puts at infinity counts 1.
        """
        assert pair.estimate is not None  # it is one of the inputs
        found = relative_error(pair.depth, pair.estimate)
        if found is None:
            return {"depth_error": math.nan, "depth_error_edges": math.nan}
        error, shared = found
        return {
            "depth_error": _mean(error, shared),
            "depth_error_edges": _mean(error, shared & _near_edges(pair.depth)),
        }

    @property
    def own_depth_steps(self) -> int:
        """As its settings say."""
        return self.steps


def _mean(error: NDArray[np.floating], at: Mask) -> float:
    return float(error[at].mean()) if np.count_nonzero(at) >= _MIN_PIXELS else math.nan


def _near_edges(depth: DepthMap) -> Mask:
    """Pixels near the steepest steps of ln depth between valid neighbours, of 2 % at least."""
    valid = valid_mask(depth)
    logs = np.log(np.where(valid, depth, 1))
    steps = np.zeros(depth.shape, np.float32)
    for axis in (0, 1):
        both = np.logical_and(*_neighbours(valid, axis))
        before, after = _neighbours(logs, axis)
        size = np.where(both, np.abs(after - before), 0)
        first, _ = _neighbours(steps, axis)
        np.maximum(first, size, out=first)
    bound = max(_LEAST_STEP, float(np.quantile(steps, 1 - _EDGE_SHARE)))
    around = np.ones((2 * _EDGE_PIXELS + 1,) * 2, np.uint8)
    return cv2.dilate((steps >= bound).astype(np.uint8), around) > 0


def _neighbours(values: NDArray[_Value], axis: int) -> tuple[NDArray[_Value], NDArray[_Value]]:
    """Views of all pixels but the last, and but the first, along an axis."""
    if axis == 0:
        return values[:-1], values[1:]
    return values[:, :-1], values[:, 1:]
