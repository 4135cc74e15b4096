"""Agreement of the joint depth with the model's own depth for the image it generated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.validity import valid_mask
from mfsynth.geometry.alignment import scale_l1
from mfsynth.geometry.metrics import abs_rel

_MIN_SHARED_PIXELS = 64


def self_agreement(depth: NDArray[np.float32], i2d_depth: NDArray[np.float32] | None) -> float:
    """AbsRel between joint depth and i2d depth, after alignment by one scale.

    The scale is the one that minimises the error (weighted median). It is a second opinion from
    the same model, so it sees sampling accidents and not the mistakes that the model makes in
    both modes (CHECKS: self agreement).

    Args:
        depth: Depth generated together with the image (H, W); 0 means invalid.
        i2d_depth: Depth that the model gives for the generated image (H, W), the reference;
            0 means invalid. None if it was not made.

    Returns:
        Mean |s depth - i2d| / i2d over pixels valid in both, from 0, not changed by a constant
        scale of either; nan (abstain) without `i2d_depth` or with fewer than 64 shared pixels.
    """
    if i2d_depth is None:
        return float("nan")
    shared = valid_mask(depth) & valid_mask(i2d_depth)
    if np.count_nonzero(shared) < _MIN_SHARED_PIXELS:
        return float("nan")
    scale = scale_l1(depth, i2d_depth, shared)
    return float(abs_rel(scale * depth, i2d_depth, shared))
