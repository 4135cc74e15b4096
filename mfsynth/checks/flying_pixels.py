"""Flying pixels: depths that hang between a near and a far surface, where none is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.validity import valid_mask
from mfsynth.config.base import Fraction

JUMP = 0.08
"""Relative depth difference over the neighbourhood from which on it counts as a jump."""

_MIN_CENTRES = 24
_LOW, _HIGH = 0.2, 0.8


class FlyingPixels(Check):
    """Limit on pixels between a foreground and its background.

    Attributes:
        max: Greatest share of depth jumps with a pixel between.
    """

    max: Fraction = 0.4

    inputs = ("depth",)
    scores = (
        Score(
            name="flying_pixels",
            label="flying pixels",
            direction="lower",
            note="share of depth jumps with a pixel that hangs between near and far",
            limit="max",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """Share of jumps."""
        return {"flying_pixels": flying_pixels(pair.depth)}


def jump_radius(height: int, width: int) -> int:
    """Distance in pixels from a centre to the two depths that span a jump.

    2 pixels, as measured, where the shorter side has 168 pixels or more, 1 below: there 2 pixels
    would take plain slanted surfaces for jumps. It does not grow with larger images, because a
    rim of a few pixels is what the check looks for.
    """
    return 2 if min(height, width) >= 168 else 1


def flying_pixels(depth: NDArray[np.float32]) -> float:
    """Share of depth jumps whose middle pixel hangs between the two sides.

    Over both axes, among the centres with |d(x+r) - d(x-r)| / min > 0.08, the share whose depth
    lies at 20 to 80 % of the jump (r = `jump_radius`). Sharp steps score 0, blurred ones towards
    1; slanted surfaces raise it, so clean sensor depth is about 0.3.

    Args:
        depth: z-depth (H, W), any positive unit; 0 means invalid. Only centres with all three
            depths valid count.

    Returns:
        Share in [0, 1], not changed by a constant scale of depth; nan (abstain) with fewer than
        24 centres on a jump (a flat scene).
    """
    radius = jump_radius(*depth.shape)
    usable = np.where(valid_mask(depth), depth, np.float32(np.nan))
    jumps = hanging = 0
    for axis_depth in (usable, usable.T):
        before = axis_depth[:, : -2 * radius]
        centre = axis_depth[:, radius:-radius]
        after = axis_depth[:, 2 * radius :]
        rise = after - before
        # Comparisons with nan are false, so invalid pixels drop out by themselves.
        on_jump = np.abs(rise) > JUMP * np.minimum(before, after)
        on_jump &= ~np.isnan(centre)
        part = (centre[on_jump] - before[on_jump]) / rise[on_jump]
        jumps += part.size
        hanging += int(np.count_nonzero((part >= _LOW) & (part <= _HIGH)))
    return hanging / jumps if jumps >= _MIN_CENTRES else float("nan")
