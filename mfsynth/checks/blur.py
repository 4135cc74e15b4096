"""Blur of the image: how little it changes when it is blurred once more."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.config.base import Fraction
from mfsynth.geometry.rgbd import RgbImage

WINDOW = 9
"""Pixels along which the image is blurred once more."""

_LEAST_CHANGE = 0.1


class Blur(Check):
    """Limit on the blur of an image.

    Attributes:
        max: Greatest blur, in [0, 1].
    """

    max: Fraction = 0.6

    inputs = ("rgb",)
    scores = (
        Score(
            name="blur",
            label="blur",
            direction="lower",
            note="share of the change between neighbouring pixels that outlasts more blur",
            limit="max",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """The blur."""
        return {"blur": blur(pair.rgb)}


def blur(rgb: RgbImage) -> float:
    """Share of the change between neighbouring pixels that is still there after a mean over nine.

    What is sharp loses most of it, what is blurred already hardly any. The worse of the two axes
    counts, so that motion is seen, too. Source: Crété et al., "The Blur Effect", SPIE 6492 (2007).
    Contrast doesn't change it; noise, which is sharp, hides blur.

    Args:
        rgb: Image (H, W, 3), 0 to 255.

    Returns:
        From 0 (sharp) to 1; nan (abstain) for an image with fewer than 9 rows or columns, or whose
        neighbours differ by less than a tenth of a level of 255 on average along both axes.
    """
    if min(rgb.shape[:2]) < WINDOW:
        return float("nan")
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    found = [_along_rows(luma), _along_rows(luma.T)]
    return max((one for one in found if not np.isnan(one)), default=float("nan"))


def _along_rows(luma: NDArray[np.float32]) -> float:
    change = np.abs(np.diff(luma, axis=1))
    whole = float(change.sum(dtype=np.float64))
    if whole < _LEAST_CHANGE * change.size:
        return float("nan")
    again = np.abs(np.diff(cv2.blur(np.ascontiguousarray(luma), (WINDOW, 1)), axis=1))
    lost = float(np.maximum(change - again, 0).sum(dtype=np.float64))
    return 1 - lost / whole
