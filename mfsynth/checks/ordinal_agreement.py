"""Ordinal agreement: is what an estimator sees in front of something else in front of it?"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.validity import valid_mask
from mfsynth.config.base import Fraction
from mfsynth.geometry import DepthEstimate, EstimateKind
from mfsynth.geometry.estimates import MIN_SHARED_PIXELS
from mfsynth.geometry.rgbd import DepthMap

APART = 0.1
"""Difference of ln depth, or of disparity as a share of its range, from which on one is nearer."""

_SEED = 0
_MIN_PAIRS = 100


class OrdinalAgreement(Check):
    """Limit on how often depth and an estimate of it disagree on which of two pixels is nearer.

    Attributes:
        min: Least share of pairs of pixels in the same order.
        pixel_pairs: How many pairs are drawn; of fewer than 100 it could say nothing.
    """

    min: Fraction = 0.85
    pixel_pairs: Annotated[int, Field(ge=_MIN_PAIRS)] = 10_000

    inputs = ("depth", "estimate")
    scores = (
        Score(
            name="ordinal_agreement",
            label="ordinal agreement",
            direction="higher",
            note="share of pixel pairs, clearly apart to the estimator, that have its order in "
            "depth",
            limit="min",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """The share."""
        assert pair.estimate is not None  # it is one of the inputs
        return {"ordinal_agreement": ordinal_agreement(pair.depth, pair.estimate, self.pixel_pairs)}


def ordinal_agreement(depth: DepthMap, estimate: DepthEstimate, pixel_pairs: int = 10_000) -> float:
    """Share of random pixel pairs i, j with the same sign of d(i) - d(j) in depth and estimate.

    Pairs count where the estimator sees them apart: |ln e(i) / e(j)| > 0.1, or, of disparity whose
    shift is unknown, where they differ by more than a tenth of the range from its 2nd to its 98th
    percentile. No fit is needed, so none can hide that near and far are exchanged. It knows
    nothing of how far apart things are: gamma and scale don't change it. After the ordinal error of
    Chen et al., "Single-Image Depth Perception in the Wild", NeurIPS 2016.

    Args:
        depth: z-depth (H, W), any positive unit; 0 means invalid.
        estimate: Of the same image.
        pixel_pairs: Drawn, with replacement, from the pixels valid in both; always the same ones.

    Returns:
        In [0, 1]; nan (abstain) with fewer than 64 shared pixels or 100 pairs that are apart.
    """
    shared = np.flatnonzero(estimate.valid & valid_mask(depth))
    if shared.size < MIN_SHARED_PIXELS:
        return float("nan")
    drawn = np.random.default_rng(_SEED).integers(0, shared.size, (2, pixel_pairs))
    first, second = shared[drawn]
    nearness = _nearness(estimate, shared)
    apart = nearness[drawn[0]] - nearness[drawn[1]]
    clear = np.abs(apart) > APART
    if np.count_nonzero(clear) < _MIN_PAIRS:
        return float("nan")
    flat = depth.reshape(-1)
    behind = np.sign(flat[second] - flat[first])
    return float(np.mean(behind[clear] == np.sign(apart[clear])))


def _nearness(estimate: DepthEstimate, pixels: NDArray[np.intp]) -> NDArray[np.float64]:
    """Higher is nearer; differences above `APART` are clear."""
    said = estimate.values.reshape(-1)[pixels].astype(np.float64)
    if estimate.kind is not EstimateKind.AFFINE_INVARIANT_DISPARITY:
        nearness: NDArray[np.float64] = -np.log(said)
        return nearness
    low, high = np.percentile(said, (2, 98))
    return said / (high - low) if high > low else np.zeros_like(said)
