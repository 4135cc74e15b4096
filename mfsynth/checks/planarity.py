"""Planarity: are the largest planes of a scene (table, floor, walls) flat?"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.normals import thinned_camera, thinning
from mfsynth.config.base import Count, Unset
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.planes import find_planes
from mfsynth.geometry.rgbd import DepthMap

TOLERANCE = 0.03
"""Distance from a plane, as a share of depth, up to which a pixel may belong to it."""


class Planarity(Check):
    """Limit on how far the largest planes of a scene are from flat.

    Attributes:
        max: Greatest root mean square distance from the planes, as a share of depth, below that of
            pixels that may belong to one: more there is not. What is usual depends on the scenes,
            so there is no limit unless one is given.
        planes: How many are looked for.
    """

    max: Unset[Annotated[float, Field(ge=0, lt=TOLERANCE)]] = None
    planes: Count = 3

    inputs = ("depth", "camera")
    scores = (
        Score(
            name="planarity",
            label="off the planes",
            direction="lower",
            note="root mean square distance of depth from its largest planes, as a share of it",
            limit="max",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """The distance."""
        assert pair.camera is not None  # it is one of the inputs
        return {"planarity": planarity(pair.depth, pair.camera, self.planes)}


def planarity(depth: DepthMap, intrinsics: Intrinsics, planes: int = 3) -> float:
    """Root mean square distance of pixels from the largest planes, as a share of their depth.

    A pixel belongs to a plane up to a distance of 3 %, so that a surface that is bent a little is
    one plane with a large residual. It sees bent and tilted geometry without a second opinion, in
    scenes that have planes. Planes are searched by `mfsynth.geometry.planes.find_planes`, always
    with the same seed, in every second, third, ... row and column of maps that are much larger than
    256 pixels.

    Args:
        depth: z-depth (H, W), any positive unit; 0 means invalid.
        intrinsics: The camera.
        planes: How many at most.

    Returns:
        From 0 to 0.03, not changed by a constant scale of depth; nan (abstain) where no plane has a
        tenth of the valid pixels.
    """
    step = thinning(*depth.shape)
    found = find_planes(
        np.ascontiguousarray(depth[::step, ::step]),
        thinned_camera(intrinsics, step),
        count=planes,
        tolerance=TOLERANCE,
    )
    if not found:
        return math.nan
    pixels = [np.count_nonzero(plane.pixels) for plane in found]
    squares = [plane.residual**2 for plane in found]
    return float(np.sqrt(np.average(squares, weights=pixels)))
