"""Right angles: does what stands on the ground stand upright? It doesn't with a wrong camera."""

from __future__ import annotations

import math
from typing import Annotated, Final

import numpy as np
from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.normals import thinned_camera, thinning
from mfsynth.config.base import Unset
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.estimates import MIN_SHARED_PIXELS
from mfsynth.geometry.normals import normals_from_depth
from mfsynth.geometry.planes import gravity_direction
from mfsynth.geometry.rgbd import DepthMap

UPRIGHT_WITHIN: Final = 25.0
"""Degrees off upright up to which a surface may be meant to stand: what is further off leans."""

# The angles of what stands lie close together: within 2 degrees a fifth of all that may be meant to
# stand, where chance would put a twenty-fifth of it. Balls, bowls and noise have no such angle.
_TOGETHER, _LEAST_SHARE = 2.0, 0.2
# Noise of depth makes noise of normals, and a larger window leaves less of small things.
_RADIUS = 2


class RightAngles(Check):
    """Limit on how far surfaces that stand on the ground are from upright.

    Attributes:
        max: Greatest angle in degrees. What is usual depends on the scenes, so there is no limit
            unless one is given.
    """

    max: Unset[Annotated[float, Field(ge=0, le=UPRIGHT_WITHIN)]] = None

    inputs = ("depth", "camera")
    scores = (
        Score(
            name="off_upright",
            label="off upright",
            direction="lower",
            unit="°",
            note="angle by which most of what stands on the ground leans",
            limit="max",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """The angle."""
        assert pair.camera is not None  # it is one of the inputs
        return {"off_upright": off_upright(pair.depth, pair.camera)}


def off_upright(depth: DepthMap, intrinsics: Intrinsics) -> float:
    """Angle from upright at which surfaces that stand on the ground are most often.

    Most things that people make stand upright on a level ground, whichever way they face: walls,
    boxes, cups, legs of tables (the "Atlanta world" of G. Schindler and F. Dellaert, CVPR 2004). A
    plane of a depth map is a plane with any camera, but the angles between planes are right with
    the right one alone: another focal length makes them lean. The ground is that of
    `mfsynth.geometry.planes.gravity_direction`. Of maps much larger than 256 pixels every second,
    third, ... row and column is looked at.

    Args:
        depth: z-depth (H, W), any positive unit; 0 means invalid.
        intrinsics: The camera.

    Returns:
        Degrees in [0, 25], not changed by a constant scale of depth; nan (abstain) where there is
        no ground, fewer than 64 pixels are within 25 degrees of upright, or no angle is frequent.
    """
    step = thinning(*depth.shape)
    some = np.ascontiguousarray(depth[::step, ::step])
    camera = thinned_camera(intrinsics, step)
    down = gravity_direction(some, camera)
    if down is None:
        return math.nan
    normals = normals_from_depth(some, camera, radius=_RADIUS)
    rises = normals[normals.any(axis=-1)].astype(np.float64) @ down
    angles = np.sort(np.degrees(np.arcsin(np.clip(rises, -1, 1))))
    angles = angles[np.abs(angles) <= UPRIGHT_WITHIN]
    ends = np.searchsorted(angles, angles + _TOGETHER, side="right")
    counts = ends - np.arange(angles.size)
    if angles.size < MIN_SHARED_PIXELS or counts.max() < _LEAST_SHARE * angles.size:
        return math.nan
    most = int(counts.argmax())
    return abs(float(np.median(angles[most : ends[most]])))
