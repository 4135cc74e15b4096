"""Agreement of the joint depth with the model's own depth for the image it generated."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.validity import valid_mask
from mfsynth.config.base import Count
from mfsynth.geometry.alignment import scale_l1
from mfsynth.geometry.metrics import abs_rel

_MIN_SHARED_PIXELS = 64


class SelfAgreement(Check):
    """Limit on the difference of joint depth and the model's own depth of the RGB image.

    Attributes:
        max: Greatest mean relative difference after scale alignment (AbsRel).
        steps: Denoising steps of the second, image-to-depth pass; it runs without guidance.
    """

    max: Annotated[float, Field(ge=0)] = 0.1
    steps: Count = 10

    inputs = ("depth", "own_depth")
    scores = (
        Score(
            name="self_agreement",
            label="self agreement",
            direction="lower",
            note="relative difference to the depth that the model gives for its own image",
            limit="max",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """AbsRel."""
        assert pair.own_depth is not None  # it is one of the inputs
        return {"self_agreement": self_agreement(pair.depth, pair.own_depth)}

    @property
    def own_depth_steps(self) -> int:
        """As its settings say."""
        return self.steps


def self_agreement(depth: NDArray[np.float32], own_depth: NDArray[np.float32]) -> float:
    """AbsRel between joint depth and the model's own depth, after alignment by one scale.

    The scale is the one that minimises the error (weighted median). It is a second opinion from
    the same model, so it sees sampling accidents and not the mistakes that the model makes in
    both modes.

    Args:
        depth: Depth generated together with the image (H, W); 0 means invalid.
        own_depth: Depth that the model gives for the generated image (H, W), the reference;
            0 means invalid.

    Returns:
        Mean |s depth - own| / own over pixels valid in both, from 0, not changed by a constant
        scale of either; nan (abstain) with fewer than 64 shared pixels.
    """
    shared = valid_mask(depth) & valid_mask(own_depth)
    if np.count_nonzero(shared) < _MIN_SHARED_PIXELS:
        return float("nan")
    scale = scale_l1(depth, own_depth, shared)
    return float(abs_rel(scale * depth, own_depth, shared))
