"""Bringing samples to the model's size."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from mfsynth.sources.base import TrainingSample
from mfsynth.sources.decoding import resize_antialiased, resize_nearest

Crop = Literal["centre", "random"]


def fit(
    sample: TrainingSample,
    height: int,
    width: int,
    crop: Crop,
    mirror: bool,
    generator: np.random.Generator,
) -> TrainingSample:
    """Cut out the largest window of the wanted proportions, and resize it.

    RGB and depth go the same way. RGB is averaged over areas; depth takes nearest pixels, so
    that every depth in the result is one of the sample's and none is mixed of two surfaces.

    Args:
        sample: Of any size.
        height: Rows of the result.
        width: Columns of the result.
        crop: Where the window lies in the direction that has room.
        mirror: Turn every other sample left to right. Not for captions that say left or right.
        generator: Decides position and mirroring.
    """
    # Always both draws: mirroring must not depend on how the window was placed.
    position, coin = generator.random(2)
    rows, columns = sample.rgb.shape[:2]
    scale = min(rows / height, columns / width)
    window_rows = min(rows, max(1, round(height * scale)))
    window_columns = min(columns, max(1, round(width * scale)))
    share = position if crop == "random" else 0.5
    top = int(share * (rows - window_rows + (crop == "random")))
    left = int(share * (columns - window_columns + (crop == "random")))
    window = (slice(top, top + window_rows), slice(left, left + window_columns))
    flip = slice(None, None, -1 if mirror and coin < 0.5 else 1)

    rgb, depth = sample.rgb[window], sample.depth
    if rgb.shape[:2] != (height, width):
        rgb = resize_antialiased(rgb, height, width)
    if depth is not None:
        depth = resize_nearest(depth[window], height, width)[:, flip]
    return replace(sample, rgb=rgb[:, flip], depth=depth)
