"""Relative depth of a pair made metric, as a run's configuration says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mfsynth.geometry import DepthEstimate, DepthKind, EstimateKind, MetricScale, metric_scale
from mfsynth.geometry.completion import completed
from mfsynth.geometry.rgbd import DepthMap
from mfsynth.runs.making import metres_beside
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


def measured(
    depth: DepthMap,
    kind: DepthKind,
    metres_per_unit: float | Literal["estimator", "source"] | None,
    estimate: DepthEstimate | None,
    item: Item,
    *,
    guided: bool = False,
) -> Measured | None:
    """A pair's depth in the unit that its run asks for.

    Args:
        depth: float32 (H, W), as it was made.
        kind: What its numbers are.
        metres_per_unit: As the configuration says.
        estimate: Of the image.
        item: What the pair begins with.
        guided: Whether the depth is to go through what a sensor measured beside the image.

    Returns:
        None where metres are asked of an estimator or a source that gives none for this image, or
        shares too few pixels with the depth.
    """
    if metres_per_unit is None:
        return Measured(depth, kind)
    if metres_per_unit == "source":
        sensor = metres_beside(item)
        if sensor is None:
            return None
        found = metric_scale(depth, sensor, sensor > 0, least_share=_LEAST_SHARE)
        if guided and found is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                dense, unit = completed(depth, sensor)
                kind, metres = DepthKind.ESTIMATED_METRIC_Z, dense * np.float32(unit)
            return Measured(metres, kind, unit, found.error)
    elif metres_per_unit == "estimator":
        assert estimate is not None  # a configuration without an estimator is refused
        if estimate.kind is not EstimateKind.METRIC_Z:
            return None
        found = metric_scale(depth, estimate.values, estimate.valid)
    else:
        return _scaled(depth, MetricScale(metres_per_unit, 0.0), None)
    return None if found is None else _scaled(depth, found, found.error)


def _scaled(depth: DepthMap, scale: MetricScale, error: float | None) -> Measured:
    # Depth that is spoilt stays so, for the check that says it.
    with np.errstate(over="ignore", invalid="ignore"):
        metres = depth * np.float32(scale.metres_per_unit)
    return Measured(metres, DepthKind.ESTIMATED_METRIC_Z, scale.metres_per_unit, error)
