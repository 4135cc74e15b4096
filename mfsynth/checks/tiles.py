"""Tiles: seams of depth at the borders of the patches that a model makes it of."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.validity import valid_mask
from mfsynth.config.base import Items, Positive
from mfsynth.geometry.rgbd import DepthMap, Mask

_FLOOR = 1e-3
_MIN_SHARE = 0.25
_MIN_LINES = 2
_SAMPLED = 128


class Tiles(Check):
    """Limit on how much depth is bent at the borders of patches.

    Attributes:
        max: Greatest ratio of the bend at the borders to that elsewhere.
        periods: Sides of patches in pixels; the worst of them counts.
    """

    max: Positive = 1.5
    periods: Annotated[Items[Annotated[int, Field(ge=3)]], Field(min_length=1)] = (8, 14, 16)

    inputs = ("depth",)
    scores = (
        Score(
            name="tiles",
            label="seams of tiles",
            direction="lower",
            note="how much more depth is bent at the borders of patches than elsewhere; 1 is not",
            limit="max",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """The ratio."""
        return {"tiles": tiles(pair.depth, self.periods)}


def tiles(depth: DepthMap, periods: tuple[int, ...] = (8, 14, 16)) -> float:
    """How many times as large second differences of ln depth are at patches' borders as elsewhere.

    Of each row and column of pixels the median of |second difference| across it is taken, so that
    objects, which lie in some of its pixels only, don't count. Then the median of those beside a
    border is set beside the median of the others, each raised by 0.001, below which no seam is
    worth a word. Patches begin at the map's corner; a map that was cropped or resized after it was
    made has its seams elsewhere.

    Args:
        depth: z-depth (H, W), any positive unit; 0 means invalid.
        periods: Sides of patches in pixels, at least 3.

    Returns:
        The greatest over the periods, about 1 without seams, not changed by a constant scale of
        depth; nan (abstain) where no period fits twice into the map, or hardly any line of it is
        valid on a quarter of its length.
    """
    known = valid_mask(depth)
    logarithms = np.log(np.where(known, depth, np.float32(1)))
    bends = (_bends(logarithms.T, known.T), _bends(logarithms, known))
    return max(
        (ratio for period in periods if not np.isnan(ratio := _ratio(bends, period))),
        default=float("nan"),
    )


def _bends(logarithms: NDArray[np.float32], known: Mask) -> NDArray[np.float32]:
    """Of each row but the outer ones, the median |second difference| to its neighbours; or nan."""
    if len(logarithms) < 3:
        return np.zeros(0, np.float32)
    # So many pixels of a line tell its median well enough.
    some = slice(None, None, max(1, logarithms.shape[1] // _SAMPLED))
    logarithms, known = logarithms[:, some], known[:, some]
    bends = np.abs(np.diff(logarithms, 2, axis=0))
    whole = known[2:] & known[1:-1] & known[:-2]
    bends[~whole] = np.nan
    count = np.count_nonzero(whole, axis=1)
    # Those that are not numbers come last.
    medians = np.sort(bends, axis=1)[np.arange(len(bends)), np.maximum(count - 1, 0) // 2]
    return np.where(count >= _MIN_SHARE * bends.shape[1], medians, np.float32(np.nan))


def _ratio(bends: tuple[NDArray[np.float32], ...], period: int) -> float:
    beside, others = [], []
    for along in bends:
        # The first of the bends is that of the second line.
        place = np.arange(1, len(along) + 1) % period
        at_border = (place == 0) | (place == period - 1)
        beside.append(along[at_border])
        others.append(along[~at_border])
    at, elsewhere = np.concatenate(beside), np.concatenate(others)
    at, elsewhere = at[~np.isnan(at)], elsewhere[~np.isnan(elsewhere)]
    if at.size < 2 * _MIN_LINES or elsewhere.size < 2 * _MIN_LINES:
        return float("nan")
    return float((np.median(at) + _FLOOR) / (np.median(elsewhere) + _FLOOR))
