"""Normals of depth against those that an estimator sees: are surfaces turned as they should be?"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.estimator_agreement import beside_estimate
from mfsynth.config.base import Unset
from mfsynth.geometry import DepthEstimate, Intrinsics
from mfsynth.geometry.estimates import MIN_SHARED_PIXELS
from mfsynth.geometry.normals import normals_from_depth
from mfsynth.geometry.rgbd import DepthMap

_SEEN_SIDE = 256


class Normals(Check):
    """Limit on the angle between normals of depth and those of an estimate.

    Attributes:
        max: Greatest median angle in degrees. What is usual depends on the estimator, so there is
            no limit unless one is given.
    """

    max: Unset[Annotated[float, Field(ge=0, le=180)]] = None

    inputs = ("depth", "estimate", "camera")
    scores = (
        Score(
            name="normals_angle",
            label="angle of normals",
            direction="lower",
            unit="°",
            note="median angle between the normals of depth and those that the estimator sees",
            limit="max",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """The angle."""
        assert pair.estimate is not None  # it is one of the inputs
        assert pair.camera is not None
        return {"normals_angle": normals_angle(pair.depth, pair.estimate, pair.camera)}


def thinning(height: int, width: int) -> int:
    """Of how many rows and columns one is enough to see surfaces: the shorter side is about 256."""
    return max(1, round(min(height, width) / _SEEN_SIDE))


def thinned_camera(camera: Intrinsics, step: int) -> Intrinsics:
    """The camera of every so many rows and columns, from the first on."""
    return Intrinsics(camera.fx / step, camera.fy / step, camera.cx / step, camera.cy / step)


def normals_angle(depth: DepthMap, estimate: DepthEstimate, intrinsics: Intrinsics) -> float:
    """Median angle between the normals of depth and of the estimate.

    The estimate's are those that it gives, else those of its depth, fitted to `depth`; what a
    fitted disparity puts at infinity, where no surface is, counts as turned by 180°. Edges of
    depth have no normals, and don't count. Of maps much larger than 256 pixels every second, third,
    ... row and column is looked at.

    Args:
        depth: z-depth (H, W), any positive unit; 0 means invalid.
        estimate: Of the same image.
        intrinsics: The camera.

    Returns:
        Degrees in [0, 180], not changed by a constant scale of depth; nan (abstain) with fewer than
        64 pixels that have both.
    """
    step = thinning(*depth.shape)
    some, camera = np.s_[::step, ::step], thinned_camera(intrinsics, step)
    mine = normals_from_depth(np.ascontiguousarray(depth[some]), camera)
    if estimate.normals is not None:
        theirs = estimate.normals[some]
    elif (found := beside_estimate(depth, estimate)) is not None:
        estimated = np.ascontiguousarray(found[0][some])
        theirs = normals_from_depth(estimated, camera)
        theirs = np.where(np.isinf(estimated)[..., None], -mine, theirs)
    else:
        return float("nan")
    # Of unit vectors, or 0 where there is no normal: half the distance is the half angle's sine.
    both = mine.any(axis=-1) & theirs.any(axis=-1) & estimate.valid[some]
    if np.count_nonzero(both) < MIN_SHARED_PIXELS:
        return float("nan")
    apart = np.linalg.norm(mine[both] - theirs[both], axis=-1) / 2
    return float(np.degrees(2 * np.arcsin(min(1.0, float(np.median(apart))))))
