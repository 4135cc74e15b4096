"""Contact sheet: many pairs in one picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.colour import colour_depth
from mfsynth.reports import images

Pair = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""RGB (H, W, 3) and z-depth (H, W), 0 = invalid."""

_GAP_SHARE = 32


def contact_sheet(pairs: Sequence[Pair], columns: int = 8, cell: int = 192) -> bytes:
    """Lays pairs out on white, each RGB image above its coloured depth.

    Args:
        pairs: RGB and depth; only whole rows are shown, unless there are fewer than `columns`.
        columns: Pairs a row, from 1.
        cell: Side in pixels of the square that each image is fitted into.

    Returns:
        A PNG file.

    Raises:
        ValueError: No pairs.
    """
    if not pairs:
        raise ValueError("a contact sheet needs at least one pair")
    columns = min(columns, len(pairs))
    rows = len(pairs) // columns
    gap = max(2, cell // _GAP_SHARE)
    pitch = (2 * cell + 3 * gap, cell + gap)
    sheet = np.full((rows * pitch[0] - 2 * gap, columns * pitch[1] - gap, 3), 255, np.uint8)
    for index, (rgb, depth) in enumerate(pairs[: rows * columns]):
        row, column = divmod(index, columns)
        top, left = row * pitch[0], column * pitch[1]
        _place(sheet, top, left, rgb, cell)
        _place(sheet, top + cell + gap, left, colour_depth(depth), cell)
    return images.png(sheet)


def _place(
    sheet: NDArray[np.uint8], top: int, left: int, rgb: NDArray[np.uint8], cell: int
) -> None:
    """Draws an image centred in its cell, enlarged smoothly or shrunk to fit."""
    height, width = rgb.shape[:2]
    scale = cell / max(height, width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    top, left = top + (cell - height) // 2, left + (cell - width) // 2
    sheet[top : top + height, left : left + width] = cv2.resize(
        rgb, (width, height), interpolation=how
    )
