"""How far an image's depth is from the depth that it was made for, object by object.

As `depth_error`, of the regions that the source's masks name: an image may have the right depth all
in all, and lack the mug. Objects whose mask and image part ways are named in the pair's row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.estimator_agreement import relative_error
from mfsynth.config.base import Count

_MIN_PIXELS = 16
# An outline that moved counts, too.
_AROUND = np.ones((5, 5), np.uint8)
_BACKGROUND = 0


class ObjectDepthError(Check):
    """Limits on how far the depth of an image is from the given one, by the objects of a mask.

    Attributes:
        max_object: Greatest mean relative difference (AbsRel) of an object, its mask and the pixels
            within two of it, after one scale alignment of the whole image.
        max_background: The same of the pixels of no object.
        steps: Denoising steps of the model's own depth, where no estimator looks.
    """

    max_object: Annotated[float, Field(ge=0)] = 0.3
    max_background: Annotated[float, Field(ge=0)] = 0.3
    steps: Count = 10

    inputs = ("depth", "estimate", "mask")
    scores = (
        Score(
            name="depth_error_object",
            label="depth error of the worst object",
            direction="lower",
            note="relative difference of the image's estimated depth to the depth it was made for, "
            "of the object of the mask where it is greatest",
            limit="max_object",
        ),
        Score(
            name="depth_error_background",
            label="depth error of the background",
            direction="lower",
            note="the same of the pixels of no object",
            limit="max_background",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """Both scores; nan where too few pixels of a region have both depths.

        Of disparity no pixel counts more than 1, and one that it puts at infinity counts 1.
        """
        found = _errors(pair)
        objects = [error for number, error in found.items() if number != _BACKGROUND]
        return {
            "depth_error_object": max(objects, default=math.nan),
            "depth_error_background": found.get(_BACKGROUND, math.nan),
        }

    def parted(self, pair: CheckedPair) -> tuple[str, ...]:
        """See `Check`."""
        return tuple(
            f"{number} {pair.names.get(number, '')}".rstrip()
            for number, error in _errors(pair).items()
            if number != _BACKGROUND and error > self.max_object
        )

    @property
    def own_depth_steps(self) -> int:
        """As its settings say."""
        return self.steps


# Scores and parted objects are of the same pair, one after the other.
@lru_cache(maxsize=1)
def _errors(pair: CheckedPair) -> Mapping[int, float]:
    """Of each object by its number, and of the background as 0; of regions that say something."""
    assert pair.estimate is not None  # it is one of the inputs
    assert pair.mask is not None  # likewise
    found = relative_error(pair.depth, pair.estimate)
    if found is None:
        return {}
    error, shared = found
    regions = {_BACKGROUND: cv2.dilate((pair.mask > 0).astype(np.uint8), _AROUND) == 0}
    for number in np.unique(pair.mask[pair.mask > 0]).tolist():
        regions[number] = cv2.dilate((pair.mask == number).astype(np.uint8), _AROUND) > 0
    return {
        number: float(error[at].mean())
        for number, region in sorted(regions.items())
        if np.count_nonzero(at := region & shared) >= _MIN_PIXELS
    }
