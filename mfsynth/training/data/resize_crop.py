"""From a source's items to samples of the model's size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.resizing import resize_image, resize_nearest
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.sources.base import Item
from mfsynth.sources.tolerance import Skipped

Crop = Literal["centre", "random"]


@dataclass(frozen=True, slots=True)
class SkippedItem:
    """An item of a mixture that was left out.

    Attributes:
        part: Number of its part.
        what: It, by its number in the source.
    """

    part: int
    what: Skipped


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSample:
    """What is left of an item at the model's size; always with an image.

    Attributes:
        rgb: uint8 (H, W, 3).
        depth: float32 (H, W), z-depth, 0 = invalid; None where there is none. In any unit: the
            model divides every map by its own mean.
        caption: May be empty.
        intrinsics: Camera of the image as it is here; None where the source has none.
        skipped: Items that can't be read, in whose place this one is.
    """

    rgb: RgbImage
    depth: DepthMap | None
    caption: str
    intrinsics: Intrinsics | None = None
    skipped: tuple[SkippedItem, ...] = ()


def fit(
    item: Item,
    height: int,
    width: int,
    crop: Crop,
    mirror: bool,
    generator: np.random.Generator,
) -> TrainingSample:
    """Cut out the largest window of the wanted proportions, and resize it.

    RGB, depth and camera go the same way. RGB is averaged over areas; depth takes nearest pixels,
    so that every depth in the result is one of the item's and none is mixed of two surfaces.

    Args:
        item: With an image, of any size.
        height: Rows of the result.
        width: Columns of the result.
        crop: Where the window lies in the direction that has room.
        mirror: Turn every other sample left to right. Not for captions that say left or right.
        generator: Decides position and mirroring.

    Raises:
        MfsynthError: The item has no image.
    """
    if item.rgb is None:
        raise MfsynthError(
            f"{item.name or 'an item'}: no image to train on; leave its source out of data"
        )
    # Always both draws: mirroring must not depend on how the window was placed.
    position, coin = generator.random(2)
    rows, columns = item.rgb.shape[:2]
    scale = min(rows / height, columns / width)
    window_rows = min(rows, max(1, round(height * scale)))
    window_columns = min(columns, max(1, round(width * scale)))
    share = position if crop == "random" else 0.5
    top = int(share * (rows - window_rows + (crop == "random")))
    left = int(share * (columns - window_columns + (crop == "random")))
    window = (slice(top, top + window_rows), slice(left, left + window_columns))
    flip = slice(None, None, -1 if mirror and coin < 0.5 else 1)

    rgb = resize_image(item.rgb[window], height, width)[:, flip]
    depth = item.depth
    if depth is not None:
        depth = resize_nearest(depth[window], height, width)[:, flip]
    camera = item.intrinsics
    if camera is not None:
        camera = camera.cropped(top, left).resized(height / window_rows, width / window_columns)
        camera = camera.mirrored(width) if flip.step == -1 else camera
    return TrainingSample(rgb, depth, item.text, camera)
