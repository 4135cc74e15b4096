"""Sparse depth as real sensors give it: patterns that keep some of a map's valid pixels.

A pattern says which pixels it would keep; `sparsify` takes away the others. So a pattern never
changes a depth and never makes an invalid pixel valid. None depends on the unit of depth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mfsynth.config.base import Count, Fraction, Positive, Settings
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.rgbd import DepthMap, Mask, RgbImage


class SparsityPattern(Settings, ABC):
    """A pure function of depth, image and generator."""

    @abstractmethod
    def keep(self, depth: DepthMap, rgb: RgbImage, generator: np.random.Generator) -> Mask:
        """Say which pixels a sensor would have measured.

        Args:
            depth: float32 (H, W) in any unit, 0 = invalid.
            rgb: uint8 (H, W, 3).
            generator: Of all that is random.

        Returns:
            bool (H, W); also where depth is invalid.
        """


class LidarPattern(SparsityPattern):
    """Scan lines of a spinning LiDAR, seen by the camera.

    A ring is a cone of one elevation, so it bends outwards in the image. Rings fill the camera's
    vertical field of view at equal angles from a random start.

    Keeps at most one pixel a ring and column: `rings / H` of the image. Of a dense map, about
    (1 - `dropout`) of that; less what bends out of the image. Thinned by `at_most`, a line has few
    neighbours left: for at most 5 % in whole lines, take 0.05 · H rings.

    Attributes:
        rings: How many in the field of view.
        fov_degrees: Vertical field of view of the camera.
        jitter: Standard deviation of a ring's elevation, in distances between rings.
        roll_degrees: Standard deviation of the angle between the scanner's and the camera's
            horizon.
        dropout: Fraction of returns that are lost.
    """

    kind: Literal["lidar"] = "lidar"
    rings: Count
    fov_degrees: Annotated[float, Field(gt=0, lt=180)] = 40.0
    jitter: Fraction = 0.1
    roll_degrees: Annotated[float, Field(ge=0, lt=45)] = 1.0
    dropout: Fraction = 0.1

    def keep(self, depth: DepthMap, rgb: RgbImage, generator: np.random.Generator) -> Mask:
        """See `SparsityPattern`."""
        height, width = depth.shape
        camera = Intrinsics.from_vertical_fov(height, width, self.fov_degrees)
        start, spread = generator.uniform(0, 1), generator.normal(size=self.rings)
        roll = np.deg2rad(self.roll_degrees * generator.normal())
        returned = generator.random((self.rings, width)) >= self.dropout

        number = np.arange(self.rings) - self.rings / 2 + start + self.jitter * spread
        elevation = np.deg2rad(self.fov_degrees / self.rings * number)
        x = (np.arange(width) - camera.cx) / camera.fx
        y = np.tan(elevation)[:, None] * np.hypot(1, x) + np.tan(roll) * x
        rows = np.rint(camera.cy + camera.fy * y)
        seen = returned & (rows >= 0) & (rows < height)
        ring, column = np.nonzero(seen)
        kept = np.zeros(depth.shape, np.bool_)
        kept[rows[ring, column].astype(np.intp), column] = True
        return kept


class RandomPointsPattern(SparsityPattern):
    """Points scattered evenly over what is valid.

    Keeps round(`share` · n) of n valid pixels, and at least one.

    Attributes:
        share: Of the valid pixels.
    """

    kind: Literal["random_points"] = "random_points"
    share: Annotated[float, Field(gt=0, le=1)]

    def keep(self, depth: DepthMap, rgb: RgbImage, generator: np.random.Generator) -> Mask:
        """See `SparsityPattern`."""
        valid = np.flatnonzero(depth)
        return _some_of(valid, max(1, round(self.share * len(valid))), depth.shape, generator)


class CornersPattern(SparsityPattern):
    """Points that structure from motion would track: corners of the image (Shi and Tomasi).

    Keeps at most `points` pixels, about (1 - `missed`) of the corners; none of an image
    without corners.

    Attributes:
        points: The most corners.
        quality: Least corner strength as a share of the image's strongest.
        min_distance: Least distance between corners in pixels.
        missed: Fraction of corners that no other image sees again.
    """

    kind: Literal["corners"] = "corners"
    points: Count = 500
    quality: Annotated[float, Field(gt=0, lt=1)] = 0.01
    min_distance: Annotated[float, Field(ge=1)] = 2.0
    missed: Fraction = 0.2

    def keep(self, depth: DepthMap, rgb: RgbImage, generator: np.random.Generator) -> Mask:
        """See `SparsityPattern`."""
        corners = cv2.goodFeaturesToTrack(
            cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY),
            maxCorners=self.points,
            qualityLevel=self.quality,
            minDistance=self.min_distance,
            mask=(depth > 0).astype(np.uint8),
        )
        kept = np.zeros(depth.shape, np.bool_)
        if corners is None:
            return kept
        column, row = np.rint(np.asarray(corners).reshape(-1, 2)).astype(np.intp).T
        tracked = generator.random(len(row)) >= self.missed
        kept[row[tracked], column[tracked]] = True
        return kept


class SensorHolesPattern(SparsityPattern):
    """Holes of a camera with structured light or active stereo.

    Missing are: what the projector, beside the camera, doesn't reach behind a nearer surface; a
    rim of pixels about depth jumps; dark surfaces and highlights; what is too far; and blobs
    without visible reason.

    Keeps at most (1 - `blobs`) of the image, and exactly that where none of the other causes
    is met, as on a wall of medium grey; nothing of a black image.

    Attributes:
        baseline: Shift between the projector's and the camera's image at the median depth, as a
            share of the image's width. The projector is on a random side.
        rim: Pixels lost on both sides of a depth jump, as a share of the image's longer side; none
            where that rounds to 0 pixels.
        jump: Least ratio of the depths on the two sides.
        dark: Brightness in [0, 1] below which surfaces are lost.
        bright: Brightness of the weakest channel above which highlights are lost.
        far: Greatest depth in multiples of the median depth.
        blobs: Fraction of the image in blobs.
        blob_size: Of a blob, as a share of the image's longer side.
    """

    kind: Literal["sensor_holes"] = "sensor_holes"
    baseline: Fraction = 0.04
    rim: Fraction = 0.004
    jump: Annotated[float, Field(gt=1)] = 1.08
    dark: Fraction = 0.08
    bright: Fraction = 0.97
    far: Positive = 3.0
    blobs: Fraction = 0.02
    blob_size: Annotated[float, Field(gt=0, le=1)] = 0.03

    def keep(self, depth: DepthMap, rgb: RgbImage, generator: np.random.Generator) -> Mask:
        """See `SparsityPattern`."""
        flip = slice(None, None, -1 if generator.random() < 0.5 else 1)
        ragged = 0.03 * _smooth_noise(depth.shape, 1.0, generator)
        sigma = self.blob_size * max(depth.shape) / 2
        blobs = _smooth_noise(depth.shape, max(sigma, 0.5), generator)
        valid = depth > 0
        if not valid.any():
            return valid
        relative = depth / np.median(depth[valid])
        channels = rgb / np.float32(255)
        lost = self._shadowed(relative[:, flip])[:, flip] | self._rim(relative)
        lost |= channels.mean(axis=2) + ragged < self.dark
        lost |= channels.min(axis=2) + ragged > self.bright
        lost |= relative > self.far
        count = round(self.blobs * depth.size)
        highest = np.argpartition(blobs, depth.size - count - 1, axis=None)[depth.size - count :]
        lost.reshape(-1)[highest] = True
        kept: Mask = ~lost
        return kept

    def _shadowed(self, relative: DepthMap) -> Mask:
        """Pixels that a projector on the right doesn't reach, from depths over the median."""
        width = relative.shape[1]
        nowhere = np.full(relative.shape, -np.inf)
        disparity = np.divide(self.baseline * width, relative, out=nowhere, where=relative > 0)
        # Where in the projector's image each pixel lies; behind all others if invalid.
        place = np.arange(width) - disparity
        least_to_the_right = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
        shadowed = np.zeros(relative.shape, np.bool_)
        shadowed[:, :-1] = place[:, :-1] >= least_to_the_right[:, 1:]
        return shadowed

    def _rim(self, relative: DepthMap) -> Mask:
        valid = relative > 0
        reach = round(self.rim * max(relative.shape))
        around = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        farthest = cv2.dilate(relative, around)
        nearest = cv2.erode(np.where(valid, relative, np.float32(np.inf)), around)
        return np.asarray(valid & (farthest / self.jump > nearest))


class AtMostPattern(SparsityPattern):
    """A cap: of more valid pixels, some at random.

    Keeps min(n, floor(`share` · H · W)) of n valid pixels.

    Attributes:
        share: Of the image's pixels.
    """

    kind: Literal["at_most"] = "at_most"
    share: Fraction

    def keep(self, depth: DepthMap, rgb: RgbImage, generator: np.random.Generator) -> Mask:
        """See `SparsityPattern`."""
        most = int(self.share * depth.size)
        return _some_of(np.flatnonzero(depth), most, depth.shape, generator)


class ClumpsPattern(SparsityPattern):
    """A cap that leaves neighbours: small squares at random places, each whole or not at all.

    Few of the pixels that `at_most` keeps are neighbours, so a loss of differences between
    neighbours hardly sees them.

    Keeps at most floor(`share` · H · W) valid pixels, and fewer than `size`² less of them where
    more are valid.

    Attributes:
        share: Of the image's pixels.
        size: Pixels along a square's side. Squares are cells of a grid that is shifted at random,
            so that any two neighbours may be kept together.
    """

    kind: Literal["clumps"] = "clumps"
    share: Fraction
    size: Count = 2

    def keep(self, depth: DepthMap, rgb: RgbImage, generator: np.random.Generator) -> Mask:
        """See `SparsityPattern`."""
        rows, columns = (
            (np.arange(length) + generator.integers(self.size)) // self.size
            for length in depth.shape
        )
        cells = rows[:, None] * (columns[-1] + 1) + columns
        counts = np.bincount(cells[depth > 0], minlength=cells.max() + 1)
        order = generator.permutation(len(counts))
        most = int(self.share * depth.size)
        return np.isin(cells, order[counts[order].cumsum() <= most])


AnySparsityPattern = Annotated[
    LidarPattern
    | RandomPointsPattern
    | CornersPattern
    | SensorHolesPattern
    | AtMostPattern
    | ClumpsPattern,
    Field(discriminator="kind"),
]


def sparsify(
    depth: DepthMap,
    rgb: RgbImage,
    patterns: Sequence[SparsityPattern],
    generator: np.random.Generator,
) -> DepthMap:
    """Take away what the patterns don't keep, one after the other.

    Args:
        depth: float32 (H, W) in any unit, 0 = invalid.
        rgb: uint8 (H, W, 3).
        patterns: In their order; each sees what the ones before left.
        generator: Each pattern gets a child of it, so that what one draws doesn't move another.

    Returns:
        float32 (H, W): `depth` where kept, else 0.
    """
    for pattern, child in zip(patterns, generator.spawn(len(patterns)), strict=True):
        depth = np.where(pattern.keep(depth, rgb, child), depth, np.float32(0))
    return depth


def _some_of(
    pixels: NDArray[np.intp],
    count: int,
    shape: tuple[int, ...],
    generator: np.random.Generator,
) -> Mask:
    kept = np.zeros(shape, np.bool_)
    chosen = generator.choice(pixels, min(count, len(pixels)), replace=False, shuffle=False)
    kept.reshape(-1)[chosen] = True
    return kept


def _smooth_noise(
    shape: tuple[int, ...], sigma: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Gaussian noise of mean about 0 and variance about 1, smooth over `sigma` pixels."""
    white = generator.standard_normal(shape, np.float32)
    smooth = cv2.GaussianBlur(white, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    # What blurring leaves of the standard deviation of white noise.
    return np.asarray(smooth * np.float32(2 * np.sqrt(np.pi) * sigma), np.float32)
