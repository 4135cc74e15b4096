"""One object of a depth map, found by its outline; moved, or put at another distance."""

from __future__ import annotations

import cv2
import numpy as np

from mfsynth.geometry.filling import fill_nearest
from mfsynth.geometry.rgbd import DepthMap, Mask

# Of neighbouring pixels: a jump of depth, and a bend of disparity, which is linear on a plane. Both
# are shares of what they are a difference of.
_JUMP, _BEND = 0.04, 0.012
# Of the image: what is smaller is noise, what is larger a wall or a table.
_SMALLEST, _LARGEST = 0.006, 0.2
_CANDIDATES = 4


def find_object(depth: DepthMap, rng: np.random.Generator) -> Mask | None:
    """A part of a map that jumps and bends of depth part from the rest, as a thing on a table.

    One of the four that stand out most towards the camera from what is around them, for background
    is no object.

    Args:
        depth: (H, W), 0 = invalid.
        rng: Which of them.

    Returns:
        (H, W), or None where nothing stands out.
    """
    valid = depth > 0
    disparity = np.divide(1, depth, out=np.zeros_like(depth), where=valid)
    jump = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        ahead = np.roll(disparity, -1, axis)
        behind = np.roll(disparity, 1, axis)
        scale = np.maximum(disparity, 1e-12)
        jump |= np.abs(ahead - disparity) > _JUMP * scale
        jump |= np.abs(ahead + behind - 2 * disparity) > _BEND * scale
    inside = (valid & ~jump).astype(np.uint8)
    # The image's border has no neighbours.
    inside[[0, -1]] = inside[:, [0, -1]] = 0
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA] / depth.size
    found = []
    for label in range(1, count):
        if not _SMALLEST <= areas[label] <= _LARGEST:
            continue
        mask = cv2.dilate((labels == label).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        mask &= valid
        around = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        around &= valid & ~mask
        if around.any():
            # How much nearer it is than the farther half of what it borders on.
            stands_out = float(np.log(np.percentile(depth[around], 75) / np.median(depth[mask])))
            if stands_out > _JUMP:
                found.append((stands_out, label, mask))
    if not found:
        return None
    found.sort(key=lambda candidate: (-candidate[0], candidate[1]))
    return found[rng.integers(min(len(found), _CANDIDATES))][2]


def rescale_object(depth: DepthMap, rng: np.random.Generator) -> DepthMap | None:
    """One object at 1.3 times its distance, or that part of it; None where none is found."""
    mask = find_object(depth, rng)
    if mask is None:
        return None
    factor = np.float32(1.3 if rng.random() < 0.5 else 1 / 1.3)
    return np.where(mask, depth * factor, depth)


def move_object(depth: DepthMap, rng: np.random.Generator) -> DepthMap | None:
    """One object's depth a tenth of the image to the side; None where none is found.

    Where it was is filled from around it.
    """
    mask = find_object(depth, rng)
    if mask is None:
        return None
    # Its rim is partly its own depth, which must not fill the place.
    rim = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    kept = (depth > 0) & ~rim
    if not kept.any():
        return None
    spoilt = np.where(rim & (depth > 0), fill_nearest(depth, kept), depth)
    distance = max(2, round(0.1 * min(depth.shape)))
    dy, dx = ((0, distance), (0, -distance), (distance, 0), (-distance, 0))[rng.integers(4)]
    rows, columns = np.nonzero(mask)
    there = (rows + dy >= 0) & (rows + dy < depth.shape[0])
    there &= (columns + dx >= 0) & (columns + dx < depth.shape[1])
    rows, columns = rows[there], columns[there]
    spoilt[rows + dy, columns + dx] = depth[rows, columns]
    return spoilt
