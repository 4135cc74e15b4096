"""A large image in overlapping tiles, and the tiles' depth in one map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import DepthMap

Window = tuple[slice, slice]
"""Rows and columns of an image."""


def tile_windows(
    size: tuple[int, int], tile: tuple[int, int], overlap: float
) -> tuple[Window, ...]:
    """As few windows of one size, at equal distances, as cover an image.

    Args:
        size: Rows and columns of the image.
        tile: Rows and columns of a window; those of the image where it has fewer.
        overlap: Share of a window's sides that neighbours have in common, at least; below 1.

    Returns:
        Row by row; a single one of an image that is no larger than a tile.
    """
    rows, columns = (
        [slice(start, min(start + part, whole)) for start in _starts(whole, part, overlap)]
        for whole, part in zip(size, tile, strict=True)
    )
    return tuple((down, across) for down in rows for across in columns)


def blend_tiles(
    whole: DepthMap,
    windows: Sequence[Window],
    tiles: Sequence[DepthMap],
    overlap: float,
    coarse: float,
) -> DepthMap:
    """Depth of an image: what is coarse of the image seen whole, what is fine of its tiles.

    A tile takes a scale that changes slowly: exp of the Gaussian mean of ln(whole/tile). One scale
    a tile would leave what a part of an image can't tell, such as how its ground slopes. Where
    tiles overlap their mean is taken, with weights that rise from a tile's edge as a raised cosine,
    over what it shares with its neighbour, so that none begins with a step.

    Args:
        whole: float32 (H, W), z-depth, 0 = invalid; its unit is the result's.
        windows: Of the tiles in it.
        tiles: Depth of each, float32 of its window's size in any unit, 0 = invalid.
        overlap: See `tile_windows`.
        coarse: Standard deviation of the Gaussian, in pixels of the image.

    Returns:
        float32 (H, W); the depth of the whole where no tile has any.
    """
    total, weights = np.zeros(whole.shape), np.zeros(whole.shape)
    for window, tile in zip(windows, tiles, strict=True):
        scale = _slow_scale(whole[window], tile, coarse)
        rows, columns = (_rise(side, overlap) for side in tile.shape)
        weight = rows[:, None] * columns * (tile > 0) * (scale > 0)
        total[window] += weight * scale * tile
        weights[window] += weight
    known = weights > 0
    return np.where(known, total / np.where(known, weights, 1), whole).astype(np.float32)


def _starts(whole: int, part: int, overlap: float) -> list[int]:
    if whole <= part:
        return [0]
    step = max(1, part - round(part * overlap))
    count = 1 + math.ceil((whole - part) / step)
    return [round(at * (whole - part) / (count - 1)) for at in range(count)]


def _slow_scale(whole: DepthMap, tile: DepthMap, coarse: float) -> NDArray[np.float64]:
    """What brings a tile to the whole, of pixels that have both depths near them; else 0."""
    both = (whole > 0) & (tile > 0)
    ratio = np.ones(whole.shape)
    np.divide(whole, tile, out=ratio, where=both)
    # Means of the pixels that have both, not of holes and of what is beyond the tile.
    summed, counted = (
        cv2.GaussianBlur(part, (0, 0), coarse, borderType=cv2.BORDER_CONSTANT)
        for part in (np.log(ratio), both.astype(np.float64))
    )
    return np.where(counted > 0, np.exp(summed / np.where(counted > 0, counted, 1)), 0)


def _rise(side: int, overlap: float) -> NDArray[np.float64]:
    """Weights of a tile's pixels along a side: 1 within, down to nearly 0 at both ends."""
    pixels = np.arange(side) + 0.5
    to_edge = np.minimum(pixels, side - pixels)
    share = np.minimum(1, to_edge / max(1, round(side * overlap)))
    return 0.5 - 0.5 * np.cos(np.pi * share)
