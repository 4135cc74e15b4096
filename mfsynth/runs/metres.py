"""Relative depth of a pair made metric, as a run's configuration says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfsynth.geometry import DepthKind, metric_scale
from mfsynth.geometry.rgbd import DepthMap
from mfsynth.sources.base import Item

NO_SCALE = "metres_per_unit"
"""Why a pair is turned down whose depth can't be made metric."""
# Of a tile's pixels: sensors such as a lidar measure few.
_LEAST_SHARE = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Depth of a pair as it is stored.

    Attributes:
        depth: float32 (H, W); 0 = invalid.
        kind: What its numbers are.
        metres_per_unit: The factor that it was multiplied by; None for none.
        error: Relative standard error of the factor; None where that isn't known.
    """

    depth: DepthMap
    kind: DepthKind
    metres_per_unit: float | None = None
    error: float | None = None


def measured_by(item: Item, depth: DepthMap) -> Measured | None:
    """Relative depth of an item's image in metres, by the metric depth that the item has.

    Returns:
        None where it has none, or none in enough parts of the image.
    """
    if item.depth is None or item.facts.unit != "metres":
        return None
    scale = metric_scale(depth, item.depth, item.depth > 0, least_share=_LEAST_SHARE)
    if scale is None:
        return None
    # Depth that is spoilt stays so, for the check that says it.
    with np.errstate(over="ignore", invalid="ignore"):
        metres = depth * np.float32(scale.metres_per_unit)
    return Measured(metres, DepthKind.ESTIMATED_METRIC_Z, scale.metres_per_unit, scale.error)
