"""How wrong a depth map is, on one image. Average over images afterwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import DepthMap
from mfsynth.geometry.selection import compared_values


def abs_rel(
    prediction: NDArray[np.floating], target: NDArray[np.floating], valid: NDArray[np.bool_]
) -> float:
    """Mean |p - g| / g; 0 is perfect.

    Args:
        prediction: Aligned depth p, any shape; finite where valid.
        target: Depth g in the same unit and shape; positive and finite where valid.
        valid: bool, the same shape.

    Raises:
        ValueError: See `compared_values`.
    """
    p, g = compared_values(prediction, target, valid)
    return float(np.mean(np.abs(p - g) / g))


def delta(
    prediction: NDArray[np.floating],
    target: NDArray[np.floating],
    valid: NDArray[np.bool_],
    k: int = 1,
) -> float:
    """Share of pixels with max(p/g, g/p) < 1.25^k, in [0, 1]; 1 is perfect.

    A prediction that isn't positive counts as wrong.

    Args:
        prediction: Aligned depth p, any shape; finite where valid.
        target: Depth g in the same unit and shape; positive and finite where valid.
        valid: bool, the same shape.
        k: 1, 2 or 3 by custom.

    Raises:
        ValueError: See `compared_values`; or k is less than 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    p, g = compared_values(prediction, target, valid)
    positive = p > 0
    p = np.where(positive, p, 1.0)
    return float(np.mean(positive & (np.maximum(p / g, g / p) < 1.25**k)))


def silog(
    prediction: NDArray[np.floating], target: NDArray[np.floating], valid: NDArray[np.bool_]
) -> float:
    """100 · standard deviation of ln p - ln g: an error that no scale changes.

    Source: Eigen et al., NeurIPS 2014, in the form of the KITTI benchmark.

    Args:
        prediction: Depth p, any shape; positive where valid.
        target: Depth g, the same shape; positive and finite where valid.
        valid: bool, the same shape.

    Raises:
        ValueError: See `compared_values`; or the prediction isn't positive at some valid pixel.
    """
    p, g = compared_values(prediction, target, valid)
    if not (p > 0).all():
        raise ValueError("the prediction isn't positive at some valid pixel: it has no logarithm")
    return 100 * float(np.std(np.log(p) - np.log(g)))


def seam_ratio(depth: DepthMap, patch: int) -> float:
    """How much a map shows the patches that it was made in; about 1 where it doesn't, more if so.

    The median |difference of ln depth| of neighbours across a border between patches, over that of
    all other neighbours. No scale of depth changes it.

    Args:
        depth: (H, W), 0 = invalid; pairs with an invalid pixel don't count.
        patch: Pixels along a patch's side, the first patch at the map's corner.

    Returns:
        nan where there is no pair of either kind, or the other neighbours' median is 0.
    """
    valid = depth > 0
    logarithms = np.log(np.where(valid, depth, 1.0), dtype=np.float64)
    across: list[NDArray[np.float64]] = []
    inside: list[NDArray[np.float64]] = []
    for values, known in ((logarithms, valid), (logarithms.T, valid.T)):
        jumps = np.abs(np.diff(values, axis=0))
        both = known[1:] & known[:-1]
        at_border = np.arange(1, len(values)) % patch == 0
        across.append(jumps[at_border][both[at_border]])
        inside.append(jumps[~at_border][both[~at_border]])
    borders, others = np.concatenate(across), np.concatenate(inside)
    if not borders.size or not others.size or not (usual := np.median(others)):
        return float("nan")
    return float(np.median(borders) / usual)
