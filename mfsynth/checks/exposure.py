"""Exposure of the image: is it burnt out, in the dark, or of hardly any contrast?"""

from __future__ import annotations

import cv2
import numpy as np

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.config.base import Fraction
from mfsynth.geometry.rgbd import RgbImage

BRIGHT, DARK = 250, 5
"""Luma from which on a pixel is clipped, and up to which it is dark, of 255."""


class Exposure(Check):
    """Limits on the brightness of an image.

    Attributes:
        max_clipped: Greatest share of clipped pixels.
        max_dark: Greatest share of dark pixels.
        min_contrast: Least distance of the 5th and the 95th percentile of luma.
    """

    max_clipped: Fraction = 0.25
    max_dark: Fraction = 0.5
    min_contrast: Fraction = 0.05

    inputs = ("rgb",)
    scores = (
        Score(
            name="clipped",
            label="clipped",
            direction="lower",
            note="share of pixels with a luma of 250 or more",
            limit="max_clipped",
        ),
        Score(
            name="dark",
            label="dark",
            direction="lower",
            note="share of pixels with a luma of 5 or less",
            limit="max_dark",
        ),
        Score(
            name="contrast",
            label="contrast",
            direction="higher",
            note="95th minus 5th percentile of luma, of 1; that of one colour is 0",
            limit="min_contrast",
        ),
        Score(
            name="mean_luma",
            label="mean luma",
            direction="higher",
            note="mean of luma, of 1",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """All four scores."""
        return exposure(pair.rgb)


def exposure(rgb: RgbImage) -> dict[str, float]:
    """Shares of clipped and of dark pixels, contrast and mean, by the histogram of luma.

    Luma is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) of the sRGB values, rounded.

    Returns:
        By the names of the scores, each in [0, 1]; nan (abstain) of an image without pixels.
    """
    if rgb.size == 0:
        return dict.fromkeys(("clipped", "dark", "contrast", "mean_luma"), float("nan"))
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    below = np.cumsum(np.bincount(luma.ravel(), minlength=256)) / luma.size
    low, high = np.searchsorted(below, (0.05, 0.95))
    return {
        "clipped": float(1 - below[BRIGHT - 1]),
        "dark": float(below[DARK]),
        "contrast": float(high - low) / 255,
        "mean_luma": float(luma.mean()) / 255,
    }
