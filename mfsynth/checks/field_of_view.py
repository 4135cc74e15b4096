"""The camera that an estimator sees in the image, against the one that the run assumes.

A model makes images as its training's cameras saw the world. Where that is not the camera that is
written beside them, points of the pair are squeezed or stretched, though image and depth agree.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.geometry import Intrinsics


class FieldOfView(Check):
    """Limit on how far the horizontal field of view may be from the one that is estimated.

    Attributes:
        max: Greatest difference in degrees. Estimators are themselves off by some degrees.
    """

    max: Annotated[float, Field(ge=0, le=180)] = 10.0

    inputs = ("intrinsics", "estimate")
    scores = (
        Score(
            name="field_of_view",
            label="field of view",
            direction="lower",
            note="difference of the horizontal field of view to that which an estimator sees",
            unit="°",
            limit="max",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """Degrees, at least 0; nan where the estimator says nothing of the camera."""
        assert pair.intrinsics is not None  # it is one of the inputs
        assert pair.estimate is not None
        seen = pair.estimate.intrinsics
        if seen is None:
            return {"field_of_view": float("nan")}
        width = pair.rgb.shape[1]
        return {"field_of_view": fov_difference(pair.intrinsics, seen, width)}


def fov_difference(first: Intrinsics, second: Intrinsics, width: int) -> float:
    """Absolute difference of two cameras' horizontal fields of view.

    Args:
        first: A camera, in pixels of the image.
        second: Another.
        width: Of the image, in pixels.

    Returns:
        Degrees, in [0, 180).
    """
    return abs(first.horizontal_fov(width) - second.horizontal_fov(width))
