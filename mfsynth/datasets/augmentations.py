"""Random changes of samples that keep image, depth and camera in step.

Depth is cut, turned and picked, never interpolated: each depth in the result is one of the sample's
own, and none is mixed of two surfaces. What moves pixels moves the intrinsics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.datasets.samples import RGBDSample
from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.resizing import resize_image, resize_nearest
from mfsynth.geometry.rgbd import RgbImage


class Augmentation(Protocol):
    """Makes another sample of one; all chance comes from `rng`."""

    def __call__(self, sample: RGBDSample, rng: np.random.Generator) -> RGBDSample:
        """The changed sample; the given one and its arrays stay as they are."""


@dataclass(frozen=True, slots=True)
class RandomCrop:
    """A window of `height` rows and `width` columns, anywhere."""

    height: int
    width: int

    def __post_init__(self) -> None:
        _require_size(self)

    def __call__(self, sample: RGBDSample, rng: np.random.Generator) -> RGBDSample:
        """See the class.

        Raises:
            MfsynthError: The sample is smaller.
        """
        rows, columns = sample.depth.shape
        if rows < self.height or columns < self.width:
            raise MfsynthError(
                f"{sample.sample_id}: is {columns}x{rows}, which no crop of {self.width}x"
                f"{self.height} fits into; take a smaller one, or resize first"
            )
        top = int(rng.integers(rows - self.height + 1))
        left = int(rng.integers(columns - self.width + 1))
        window = np.s_[top : top + self.height, left : left + self.width]
        return _changed(
            sample, sample.rgb[window], lambda map_: map_[window], lambda k: k.cropped(top, left)
        )


@dataclass(frozen=True, slots=True)
class HorizontalFlip:
    """Left and right changed, of a share `p` of samples. Not for prompts that name sides."""

    p: float = 0.5

    def __post_init__(self) -> None:
        _require_shares(self)

    def __call__(self, sample: RGBDSample, rng: np.random.Generator) -> RGBDSample:
        """See the class."""
        if rng.random() >= self.p:
            return sample
        width = sample.depth.shape[1]
        mirrored = _changed(
            sample, sample.rgb[:, ::-1], lambda map_: map_[:, ::-1], lambda k: k.mirrored(width)
        )
        # In a mirror nothing stands where a pose could put it.
        return replace(mirrored, camera_to_world=None, objects=())


@dataclass(frozen=True, slots=True)
class Resize:
    """To `height` rows and `width` columns: images by area, depth by the nearest pixel."""

    height: int
    width: int

    def __post_init__(self) -> None:
        _require_size(self)

    def __call__(self, sample: RGBDSample, rng: np.random.Generator) -> RGBDSample:
        """See the class."""
        rows, columns = sample.depth.shape
        return _changed(
            sample,
            resize_image(sample.rgb, self.height, self.width),
            lambda map_: resize_nearest(map_, self.height, self.width),
            lambda k: k.resized(self.height / rows, self.width / columns),
        )


@dataclass(frozen=True, slots=True)
class ColourJitter:
    """Brightness, contrast and saturation, each by a factor within 1 ± its share."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
        _require_shares(self)

    def __call__(self, sample: RGBDSample, rng: np.random.Generator) -> RGBDSample:
        """See the class."""
        spread = np.array([self.brightness, self.contrast, self.saturation])
        brightness, contrast, saturation = 1 + spread * rng.uniform(-1, 1, 3)
        image = sample.rgb.astype(np.float32)
        grey = cv2.cvtColor(sample.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
        image = grey + saturation * (image - grey)
        image = brightness * (grey.mean() + contrast * (image - grey.mean()))
        return replace(sample, rgb=np.clip(np.rint(image), 0, 255).astype(np.uint8))


def _require_size(change: RandomCrop | Resize) -> None:
    if any(type(side) is not int or side < 1 for side in (change.height, change.width)):
        raise MfsynthError(f"{change!r:.200}: give whole numbers of rows and columns, from 1")


def _require_shares(change: HorizontalFlip | ColourJitter) -> None:
    for field in fields(change):
        share = getattr(change, field.name)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise MfsynthError(f"{change!r:.200}: give {field.name} from 0 to 1")


def _changed(
    sample: RGBDSample,
    rgb: RgbImage,
    picked: Callable[[NDArray[Any]], NDArray[Any]],
    moved: Callable[[Intrinsics], Intrinsics],
) -> RGBDSample:
    """The sample with another image, maps of which pixels are picked, and a camera that moved."""
    camera, mask, sensor = sample.intrinsics, sample.mask, sample.sensor
    depth = np.ascontiguousarray(picked(sample.depth))
    return replace(
        sample,
        rgb=np.ascontiguousarray(rgb),
        depth=depth,
        valid=depth > 0,
        intrinsics=None if camera is None else moved(Intrinsics.from_matrix(camera)).matrix(),
        sensor=None if sensor is None else np.ascontiguousarray(picked(sensor)),
        mask=None if mask is None else np.ascontiguousarray(picked(mask)),
        # Nobody knows how to move what only its source understands.
        others={},
    )
