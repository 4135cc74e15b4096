"""Agreement of the depth made with an image and the model's own depth for the finished image.

The second is the better one, so it is what a run keeps; the first is only compared with it. Where
the sampler makes depth of the finished image anyway there is nothing to compare: the check
abstains, and costs nothing.
"""

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
    """Limit on the difference of joint depth and the model's own depth of the finished image.

    Attributes:
        max: Greatest mean relative difference after scale alignment (AbsRel).
        steps: Denoising steps of the second depth; they run without guidance.
    """

    max: Annotated[float, Field(ge=0)] = 0.1
    steps: Count = 10

    inputs = ("depth", "joint_depth")
    scores = (
        Score(
            name="self_agreement",
            label="self agreement",
            direction="lower",
            note="relative difference of the depth made with the image to the model's own for the "
            "finished image",
            limit="max",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """AbsRel."""
        assert pair.joint_depth is not None  # it is one of the inputs
        return {"self_agreement": self_agreement(pair.joint_depth, pair.depth)}

    @property
    def own_depth_steps(self) -> int:
        """As its settings say."""
        return self.steps


def self_agreement(joint_depth: NDArray[np.float32], own_depth: NDArray[np.float32]) -> float:
    """AbsRel between joint depth and the model's own depth, after alignment by one scale.

    The scale is the one that minimises the error (weighted median). It is a second opinion from
    the same model, so it sees sampling accidents and not the mistakes that the model makes in
    both modes.

    Args:
        joint_depth: Depth generated together with the image (H, W); 0 means invalid.
        own_depth: Depth that the model gives for the generated image (H, W), the reference;
            0 means invalid.

    Returns:
        Mean |s joint - own| / own over pixels valid in both, from 0, not changed by a constant
        scale of either; nan (abstain) with fewer than 64 shared pixels.
    """
    shared = valid_mask(joint_depth) & valid_mask(own_depth)
    if np.count_nonzero(shared) < _MIN_SHARED_PIXELS:
        return float("nan")
    scale = scale_l1(joint_depth, own_depth, shared)
    return float(abs_rel(scale * joint_depth, own_depth, shared))
