"""Registration of RGB and depth: do depth edges lie on image edges better than beside them?"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.base import Check, CheckedPair, Score
from mfsynth.checks.validity import valid_mask

EDGE_SHARE = 0.04
"""Share of the usable pixels, those of steepest ln depth, that count as depth edges."""

GRID_RADIUS = 4
"""Shifts go from -4 to +4 steps along both axes: 81 of them."""

_STEP = 4
_STEP_SIDE = 224
_EDGE_PROMINENCE = 3.0
_MIN_EDGE_PIXELS = 24
_SHADOW_SHARE = 64
_GRADIENT_LEVELS = 1 << 16


class Registration(Check):
    """Limit on how well depth edges lie on RGB edges.

    Attributes:
        min: Least shift-z, in standard deviations over shifts.
    """

    min: float = 1.5

    inputs = ("rgb", "depth")
    scores = (
        Score(
            name="registration",
            label="registration",
            direction="higher",
            note="shift-z: how many standard deviations the unshifted depth edges fit the image "
            "better than shifted ones",
            limit="min",
        ),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        """Shift-z."""
        return {"registration": registration(pair.rgb, pair.depth)}


def shift_step(height: int, width: int) -> int:
    """Step of the shift grid in pixels, in proportion to the image.

    4 pixels (shifts of up to 16) where the shorter side has 224, as measured; otherwise
    round(4 * side / 224) and at least 1: 1 at 64, 2 at 128, 9 at 512.
    """
    return max(1, round(_STEP * min(height, width) / _STEP_SIDE))


def shift_scores(rgb: NDArray[np.uint8], depth: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Mean image-edge rank at the depth edges, for each shift of the depth edges.

    Args:
        rgb: Image (H, W, 3), 0 to 255.
        depth: z-depth (H, W), any positive unit; 0 means invalid.

    Returns:
        S (9, 9), values in [0, 1], indexed [dy, dx]; the unshifted score is S[4, 4]. None where
        there is nothing to compare (see `registration`).
    """
    height, width = depth.shape
    step = shift_step(height, width)
    margin = GRID_RADIUS * step
    edges = _depth_edges(depth, margin)
    if edges is None:
        return None
    # At one pixel a step a 3x3 maximum would blur neighbouring shifts into one another.
    rank = _edge_rank(rgb, neighbourhood=3 if step > 1 else 1)
    shifts = step * np.arange(-GRID_RADIUS, GRID_RADIUS + 1)
    # One gather per row of shifts keeps the scratch memory small (9 values an edge pixel).
    flat = rank.ravel()
    columns = edges[None, :] + shifts[:, None]
    return np.stack([flat[columns + dy * width].mean(axis=1) for dy in shifts]).astype(np.float64)


def registration(rgb: NDArray[np.uint8], depth: NDArray[np.float32]) -> float:
    """Shift-z: by how many standard deviations the unshifted depth fits the image best.

    E is the top 4 % of the |gradient of ln depth|, R the rank within the image of the 3x3-max
    image gradient (of the gradient itself where the step of the shifts is 1 pixel), S(shift) the
    mean of R at E moved by the shift; the score is (S(0) - mean S) / std S over the grid of
    shifts. Registered pairs score high (about 2 and more), misregistered ones near 0 or below. It
    sees misregistration and nothing else: wrong but well aligned geometry scores high too.

    Args:
        rgb: Image (H, W, 3), 0 to 255.
        depth: z-depth (H, W), any positive unit; 0 means invalid. Borders of invalid areas are
            not depth edges: a gradient counts only where its whole 3x3 neighbourhood is valid,
            after strips of up to a 32nd of the shorter side (sensor shadows) were filled with
            the farthest depth beside them.

    Returns:
        z, unit-free, not changed by a constant scale of depth; nan (abstain) where it is not
        defined: fewer than 24 depth edge pixels at least three times as steep as the median of
        the depth map (a constant map, a lone plane, hardly any valid depth), or an image without
        any edge (the score is the same for every shift).
    """
    scores = shift_scores(rgb, depth)
    if scores is None:
        return float("nan")
    spread = float(scores.std())
    if spread < 1e-6:
        return float("nan")
    return (float(scores[GRID_RADIUS, GRID_RADIUS]) - float(scores.mean())) / spread


def _depth_edges(depth: NDArray[np.float32], margin: int) -> NDArray[np.intp] | None:
    """Flat indices of the steepest pixels at least `margin` from the border; None if too few."""
    if min(depth.shape) <= 2 * margin:
        return None
    filled = _fill_shadows(depth)
    valid = filled > 0
    log_depth = np.log(np.where(valid, filled, np.float32(1)))
    across = cv2.Sobel(log_depth, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(log_depth, cv2.CV_32F, 0, 1, ksize=3)
    # In numpy, whose last bits are the same in every process: they decide between edges that are
    # about equally steep.
    gradient = np.sqrt(across * across + down * down)
    usable = cv2.erode(valid.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    # Edge pixels must stay inside the image under every shift, so that all shifts are scored on
    # the same pixels.
    inner = np.zeros_like(usable)
    inner[margin:-margin, margin:-margin] = True
    usable &= inner
    values = gradient[usable]
    count = int(EDGE_SHARE * values.size)
    if count < _MIN_EDGE_PIXELS:
        return None
    steepest = np.partition(values, values.size - count)[values.size - count]
    threshold = max(float(steepest), _EDGE_PROMINENCE * float(np.median(values)), 1e-5)
    edges = np.flatnonzero(usable & (gradient >= threshold))
    return edges if edges.size >= _MIN_EDGE_PIXELS else None


def _fill_shadows(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Closes narrow invalid areas with the farthest depth nearby.

    Depth sensors see nothing in a strip along the outline of near objects. That strip belongs to
    the background, and without it the very edges that matter would be lost (their 3x3
    neighbourhood is never valid). Wide invalid areas stay.
    """
    valid = valid_mask(depth)
    if valid.all():
        return depth
    known = np.where(valid, depth, np.float32(0))
    radius = max(1, round(min(depth.shape) / _SHADOW_SHARE))
    farthest = cv2.dilate(known, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8))
    return np.where(valid, known, farthest)


def _edge_rank(rgb: NDArray[np.uint8], neighbourhood: int) -> NDArray[np.float32]:
    """Rank in [0, 1] within the image of the local maximum of the gradient; ties share theirs."""
    # In place, and in small types: the pages of fresh temporaries would cost more than all else.
    # Sums of squares of 8-bit Sobels are whole numbers below 2**24: exact, in whatever order.
    squared = np.zeros(rgb.shape[:2], np.float32)
    scratch = np.empty_like(squared)
    for channel in cv2.split(rgb):
        for along in ((1, 0), (0, 1)):
            cv2.Sobel(channel, cv2.CV_32F, *along, ksize=3, dst=scratch)
            cv2.accumulateSquare(scratch, squared)
    kernel = np.ones((neighbourhood, neighbourhood), np.uint8)
    magnitude = np.sqrt(cv2.dilate(squared, kernel, dst=scratch), out=squared)
    # Sobel of 8-bit channels is at most 1020 an axis, so the magnitude is below 2500. Ranks come
    # from a histogram: sorting would cost more and rank equal pixels by their position.
    magnitude *= np.float32(_GRADIENT_LEVELS / 2500.0)
    level = magnitude.astype(np.uint16)
    counts = cv2.calcHist([level], [0], None, [_GRADIENT_LEVELS], [0, _GRADIENT_LEVELS])
    counts = counts.ravel().astype(np.float64)
    middle = (np.cumsum(counts) - 0.5 * counts) / level.size
    return middle.astype(np.float32).take(level, out=magnitude, mode="clip")
