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

UPRIGHT_WITHIN: Final = 20.0
"""Degrees off the ground's normal's right angle up to which a surface is taken for an upright one:
what is further off is meant to lean."""

# Noise of depth makes noise of normals, and a larger window leaves less of small things.
_RADIUS = 2


class RightAngles(Check):
    """Limit on how far surfaces that stand on the ground are from upright.

    Attributes:
        max: Greatest median angle in degrees. What is usual depends on the scenes, so there is no
            limit unless one is given.
    """

    max: Unset[Annotated[float, Field(ge=0, le=UPRIGHT_WITHIN)]] = None

    inputs = ("depth", "camera")
    scores = (
        Score(
            name="off_upright",
            label="off upright",
            direction="lower",
            unit="°",
            note="median angle by which surfaces that stand on the ground lean",
            limit="max",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """The angle."""
        assert pair.camera is not None  # it is one of the inputs
        return {"off_upright": off_upright(pair.depth, pair.camera)}


def off_upright(depth: DepthMap, intrinsics: Intrinsics) -> float:
    """Median angle between the vertical and the surfaces that are within 20 degrees of it.

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
        Degrees in [0, 20], not changed by a constant scale of depth; nan (abstain) where there is
        no ground, or fewer than 64 pixels are of upright surfaces.
    """
    step = thinning(*depth.shape)
    some = np.ascontiguousarray(depth[::step, ::step])
    camera = thinned_camera(intrinsics, step)
    down = gravity_direction(some, camera)
    if down is None:
        return math.nan
    normals = normals_from_depth(some, camera, radius=_RADIUS)
    rises = normals[normals.any(axis=-1)].astype(np.float64) @ down
    leaning = np.degrees(np.arcsin(np.clip(np.abs(rises), 0, 1)))
    upright = leaning[leaning <= UPRIGHT_WITHIN]
    return float(np.median(upright)) if upright.size >= MIN_SHARED_PIXELS else math.nan
