"""Agreement of depth with what an independent estimator says of the image.

It sees what no edge does: geometry that is bent, tilted, inverted or of another scene.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.validity import valid_mask
from mfsynth.config.base import Fraction
from mfsynth.geometry import DepthEstimate, EstimateKind
from mfsynth.geometry.rgbd import DepthMap, Mask

_NAN = float("nan")


class EstimatorAgreement(Check):
    """Limits on the difference of depth and an estimate of it, aligned.

    Attributes:
        max_difference: Greatest median relative difference.
        min_delta1: Least share of pixels that differ by a factor of less than 1.25 (δ1).
    """

    max_difference: Annotated[float, Field(ge=0)] = 0.15
    min_delta1: Fraction = 0.8

    inputs = ("depth", "estimate")
    scores = (
        Score(
            name="estimator_difference",
            label="difference to estimator",
            direction="lower",
            note="median relative difference of depth to what the estimator says of the image",
            limit="max_difference",
        ),
        Score(
            name="estimator_delta1",
            label="δ1 to estimator",
            direction="higher",
            note="share of pixels whose depth is within a factor of 1.25 of the estimator's",
            limit="min_delta1",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """Both scores."""
        assert pair.estimate is not None  # it is one of the inputs
        difference, delta1 = estimator_agreement(pair.depth, pair.estimate)
        return {"estimator_difference": difference, "estimator_delta1": delta1}


def estimator_agreement(depth: DepthMap, estimate: DepthEstimate) -> tuple[float, float]:
    """Median of |d - e| / e, and δ1, the share of pixels with max(d / e, e / d) < 1.25.

    The estimate e is fitted to the depth d by what its kind leaves open, as
    `DepthEstimate.depth_like` does. δ1 is that of Eigen et al., NeurIPS 2014. Both see geometry
    that is bent, tilted, inverted or of another image, and share the estimator's mistakes. A pixel
    that a fitted disparity puts at infinity, or beyond it, has e = inf: a relative difference of 1,
    and a miss for δ1.

    Args:
        depth: z-depth (H, W), any positive unit; 0 means invalid.
        estimate: Of the same image.

    Returns:
        The two, over the pixels that have a depth and of which the estimator speaks, not changed
        by a constant scale of depth; nan (abstain) with fewer than 64 of them.
    """
    found = beside_estimate(depth, estimate)
    if found is None:
        return _NAN, _NAN
    estimated, shared = found
    ratio = depth[shared] / estimated[shared]
    difference = float(np.median(np.abs(ratio - 1)))
    return difference, float(np.count_nonzero((ratio < 1.25) & (ratio > 0.8)) / ratio.size)


def beside_estimate(
    depth: DepthMap, estimate: DepthEstimate
) -> tuple[NDArray[np.float32], Mask] | None:
    """The estimated depth in the unit of `depth`, and where both say something.

    Returns:
        As `DepthEstimate.depth_like`, inf among them; None where there are fewer than 64 such
        pixels, so that nothing is to be said of them.
    """
    estimated = estimate.depth_like(depth)
    return None if estimated is None else (estimated, estimate.valid & valid_mask(depth))


def relative_error(
    depth: DepthMap, estimate: DepthEstimate
) -> tuple[NDArray[np.float32], Mask] | None:
    """|e - d| / d of each pixel, of the estimate e fitted to the depth d, and where both are.

    A disparity whose shift is fitted puts a pixel anywhere up to infinity, or beyond it: of such an
    estimate no pixel counts more than 1, so that a few far ones don't make up a mean.

    Returns:
        float32 (H, W), of which only the second counts; None where fewer than 64 pixels have both.
    """
    found = beside_estimate(depth, estimate)
    if found is None:
        return None
    estimated, shared = found
    given = np.where(shared, depth, np.float32(1))
    error: NDArray[np.float32] = np.divide(np.abs(estimated - given), given)
    if estimate.kind is EstimateKind.AFFINE_INVARIANT_DISPARITY:
        np.minimum(error, 1, out=error)
    return error, shared
