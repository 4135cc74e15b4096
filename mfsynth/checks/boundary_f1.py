"""Boundaries of depth against those of an estimate: are they there, and where they should be?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.estimator_agreement import beside_estimate
from mfsynth.config.base import Fraction, Unset
from mfsynth.geometry import DepthEstimate
from mfsynth.geometry.rgbd import DepthMap, Mask

RATIOS = np.linspace(1.05, 1.25, 10)
"""Of the depths of neighbours, from which on a boundary is between them; also its weight."""

_MIN_BOUNDARIES = 100


class BoundaryF1(Check):
    """Limit on how well boundaries of depth are those of an estimate.

    Attributes:
        min: Least F1 score. How high it gets depends on how sharp the estimator is, so there is no
            limit unless one is given.
    """

    min: Unset[Fraction] = None

    inputs = ("depth", "estimate")
    scores = (
        Score(
            name="boundary_f1",
            label="boundary F1",
            direction="higher",
            note="F1 score of the boundaries of depth against those that the estimator sees",
            limit="min",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """The score."""
        assert pair.estimate is not None  # it is one of the inputs
        return {"boundary_f1": boundary_f1(pair.depth, pair.estimate)}


def boundary_f1(depth: DepthMap, estimate: DepthEstimate) -> float:
    """F1 score of occluding boundaries, a weighted mean over ten ratios of depths.

    A boundary of ratio t lies between two neighbours, in a row or a column, if one is more than t
    times as far as the other; it is found if the other map has one in the same place, with the same
    side in front. The F1 score of precision and recall is averaged over t from 1.05 to 1.25, with
    weights in proportion to t. Source: Depth Pro (Bochkovskii et al., arXiv:2410.02073), section
    3.2. No pixel of tolerance: an estimator that is soft, or off by one, lowers it. What a fitted
    disparity puts at infinity is behind all that isn't, with no boundary inside of it.

    Args:
        depth: z-depth (H, W), any positive unit; 0 means invalid.
        estimate: Of the same image.

    Returns:
        In [0, 1], not changed by a constant scale of depth; nan (abstain) with fewer than 64 shared
        pixels, or fewer than 100 boundaries of the least ratio in the estimate.
    """
    found = beside_estimate(depth, estimate)
    if found is None:
        return float("nan")
    estimated, shared = found
    # So that two pixels at infinity have a difference.
    estimated = np.minimum(estimated, np.finfo(np.float32).max)
    mine, theirs = (np.log(np.where(shared, map_, np.float32(1))) for map_ in (depth, estimated))
    counts = _boundaries(mine, theirs, shared)
    counts += _boundaries(mine.T, theirs.T, shared.T)
    in_depth, in_estimate, in_both = counts
    if in_estimate[0] < _MIN_BOUNDARIES:
        return float("nan")
    # 2PR / (P + R), with P = both / depth and R = both / estimate.
    f1 = 2 * in_both / np.maximum(1, in_depth + in_estimate)
    return float(np.average(f1, weights=RATIOS))


def _boundaries(
    log_depth: NDArray[np.float32], log_estimated: NDArray[np.float32], known: Mask
) -> NDArray[np.int64]:
    """Boundaries between rows at each ratio (3, 10): in depth, in the estimate, in both."""
    both = known[1:] & known[:-1]
    changes = np.stack([np.diff(logs, axis=0)[both] for logs in (log_depth, log_estimated)])
    # Of most pairs of neighbours neither map has a boundary between them.
    changes = changes[:, (np.abs(changes) > np.log(RATIOS[0])).any(axis=0)]
    # How many of the ratios each one exceeds.
    levels = np.searchsorted(np.log(RATIOS), np.abs(changes))
    same_side = np.signbit(changes[0]) == np.signbit(changes[1])
    shared = np.where(same_side, levels.min(axis=0), 0)
    return np.stack([_at_least(level) for level in (*levels, shared)])


def _at_least(levels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many reach level 1, 2 and so on."""
    return np.bincount(levels, minlength=RATIOS.size + 1)[:0:-1].cumsum()[::-1]
