"""How many metres a unit of relative depth is, by a metric depth of the same image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import DepthMap, Mask

TILES = 8
"""Rows and columns of tiles that an image is divided into."""
_LEAST_TILES = 8
# Of a tile's pixels, at least so many must have both depths.
_LEAST_SHARE = 0.25
# Of a normal distribution: its standard deviation over the median absolute deviation, and the
# standard error of a median over that of a mean.
_OF_MAD = 1.4826
_OF_MEDIAN = math.sqrt(math.pi / 2)


@dataclass(frozen=True, slots=True)
class MetricScale:
    """What makes a relative depth map metric.

    Attributes:
        metres_per_unit: The factor.
        error: Its relative standard error, as far as the parts of the image disagree; what the
            metric depth has wrong everywhere alike is not in it.
    """

    metres_per_unit: float
    error: float


def metric_scale(depth: DepthMap, metric: NDArray[np.floating], valid: Mask) -> MetricScale | None:
    """The factor by which a relative depth agrees with a metric one, and how sure it is.

    The image is divided into 8×8 tiles. A tile says mᵢ, the median of ln(metric/depth) over its
    pixels, if a quarter of them has both. Of the n tiles that do, ln of the factor is the median m.
    Its standard error, and so the relative one of the factor, is
    √(π/2) · 1.4826 · median|mᵢ − m| / √n: pixels of a tile lie on the same surfaces and are wrong
    together, so tiles are counted, not pixels; medians let a few tiles be as wrong as they like.

    Args:
        depth: float32 (H, W), z-depth in any unit; what isn't positive and finite is invalid.
        metric: (H, W) z-depth in metres.
        valid: bool (H, W): where `metric` says something.

    Returns:
        None where fewer than 8 tiles say anything.
    """
    shared = valid & np.isfinite(depth) & (depth > 0) & np.isfinite(metric) & (metric > 0)
    logs = np.full(depth.shape, np.nan)
    np.divide(metric, depth, out=logs, where=shared)
    np.log(logs, out=logs, where=shared)
    rows, columns = (np.linspace(0, side, TILES + 1).round().astype(int) for side in depth.shape)
    said = []
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            tile = logs[top:bottom, left:right]
            values = tile[~np.isnan(tile)]
            if values.size and values.size >= _LEAST_SHARE * tile.size:
                said.append(float(np.median(values)))
    if len(said) < _LEAST_TILES:
        return None
    middle = float(np.median(said))
    spread = _OF_MAD * float(np.median(np.abs(np.array(said) - middle)))
    return MetricScale(math.exp(middle), _OF_MEDIAN * spread / math.sqrt(len(said)))
