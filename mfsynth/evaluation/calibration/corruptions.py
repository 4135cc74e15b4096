"""Named ways to spoil a good RGB-D pair, to measure what checks see and what they miss."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.base import CheckedPair, Input
from mfsynth.checks.validity import valid_mask
from mfsynth.evaluation.calibration.objects import move_object, rescale_object
from mfsynth.geometry.rgbd import DepthMap as Depth

DepthSpoil = Callable[[Depth, np.random.Generator], Depth | None]
"""Takes a depth map (H, W), 0 = invalid, and returns a spoilt one of the same shape; None where it
can't be applied."""
Spoil = Callable[[CheckedPair, CheckedPair, np.random.Generator], CheckedPair | None]
"""Takes a good pair and that of another image, and returns a spoilt copy of the first; None where
it can't be made of it."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """A way to spoil a pair.

    Attributes:
        name: As tables have it; pixels are those of the pair.
        family: Corruptions of one kind: the fused score that is tried on one of them has seen none.
        apply: Makes the spoilt copy.
        spoils: What is not as it was.
        mild: Whether it is so little that nobody need notice.
    """

    name: str
    family: str
    apply: Spoil
    spoils: Input = "depth"
    mild: bool = False

    def seen_by(self, inputs: Collection[Input]) -> bool:
        """Whether it is tried on a check that looks at these.

        A spoilt image is, on checks of images alone: those that hold it against depth are measured
        by spoilt depth.
        """
        if self.spoils == "rgb":
            return "rgb" in inputs and "depth" not in inputs
        alike = {"intrinsics": "camera", "text": "slots"}
        return not {self.spoils, alike.get(self.spoils)}.isdisjoint(inputs)


def of_depth(name: str, family: str, spoil: DepthSpoil, *, mild: bool = False) -> Corruption:
    """A corruption of the depth map alone."""

    def apply(pair: CheckedPair, _: CheckedPair, rng: np.random.Generator) -> CheckedPair | None:
        depth = spoil(pair.depth, rng)
        return None if depth is None else replace(pair, depth=depth)

    return Corruption(name, family, apply, mild=mild)


def other_depth(pair: CheckedPair, other: CheckedPair, _: np.random.Generator) -> CheckedPair:
    """Takes the depth of the other image."""
    return replace(pair, depth=other.depth)


def other_prompt(
    pair: CheckedPair, other: CheckedPair, _: np.random.Generator
) -> CheckedPair | None:
    """Takes the prompt of the other image, if that is another one."""
    if pair.text is None or other.text in (None, pair.text):
        return None
    return replace(pair, text=other.text, slots=other.slots)


def lens(times: float) -> Spoil:
    """Says that the focal length is so many times as long."""

    def apply(pair: CheckedPair, _: CheckedPair, rng: np.random.Generator) -> CheckedPair | None:
        camera = pair.intrinsics
        if camera is None:
            return None
        changed = replace(camera, fx=times * camera.fx, fy=times * camera.fy)
        return replace(pair, intrinsics=changed)

    return apply


def brightness(times: float) -> Spoil:
    """Multiplies the image's linear light, and clips what is too bright."""
    levels = ((np.arange(256) / 255) ** 2.2 * times) ** (1 / 2.2)
    table = np.rint(255 * levels.clip(0, 1)).astype(np.uint8)
    return lambda pair, other, rng: replace(pair, rgb=table[pair.rgb])


def blurred_image(sigma: float) -> Spoil:
    """Blurs the image, `sigma` in its pixels."""
    return lambda pair, other, rng: replace(
        pair, rgb=cv2.GaussianBlur(pair.rgb, (0, 0), sigma).astype(np.uint8)
    )


def shift(pixels: int) -> DepthSpoil:
    """Moves the depth map in a random direction."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        distance = min(pixels, min(depth.shape) - 1)
        dy, dx = ((0, distance), (0, -distance), (distance, 0), (-distance, 0))[rng.integers(4)]
        padded = np.pad(depth, distance, mode="edge")
        top, left = distance - dy, distance - dx
        return np.ascontiguousarray(
            padded[top : top + depth.shape[0], left : left + depth.shape[1]]
        )

    return corrupt


def flip(depth: Depth, rng: np.random.Generator) -> Depth:
    """Mirrors the depth map left to right."""
    return np.ascontiguousarray(depth[:, ::-1])


def warp(share: float) -> DepthSpoil:
    """Bends the depth map by a smooth random field of up to a share of the shorter side."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        height, width = depth.shape
        dx, dy = (
            cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
            for coarse in rng.uniform(-1, 1, (2, 4, 4)).astype(np.float32)
        )
        amount = share * min(depth.shape) / max(float(np.abs(dx).max()), float(np.abs(dy).max()))
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        bent = cv2.remap(
            depth,
            (x + dx * amount).astype(np.float32),
            (y + dy * amount).astype(np.float32),
            interpolation=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return bent.astype(np.float32)

    return corrupt


def blur(sigma: float) -> DepthSpoil:
    """Blurs the depth map over its valid pixels, `sigma` in pixels of the map itself."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        valid = valid_mask(depth)
        weight = cv2.GaussianBlur(valid.astype(np.float32), (0, 0), sigma)
        total = cv2.GaussianBlur(np.where(valid, depth, np.float32(0)), (0, 0), sigma)
        return np.where(valid, total / np.maximum(weight, 1e-6), 0).astype(np.float32)

    return corrupt


def gamma(power: float) -> DepthSpoil:
    """Bends the depth curve: d becomes d ** power around its median."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        return _on_valid(depth, _curve(power))

    return corrupt


def _curve(power: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda d: float(np.median(d)) * (d / np.median(d)) ** power


def tilt(strength: float) -> DepthSpoil:
    """Multiplies depth by a ramp from 1 - strength to 1 + strength in a random direction."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in depth.shape), indexing="ij")
        ramp = (np.cos(angle) * x + np.sin(angle) * y) / np.sqrt(2)
        tilted: Depth = (depth * (1 + strength * ramp)).astype(np.float32)
        return tilted

    return corrupt


def invert(depth: Depth, rng: np.random.Generator) -> Depth:
    """Turns near into far: disparity is mirrored within its own range."""
    return _on_valid(depth, lambda d: 1.0 / (1.0 / d.min() + 1.0 / d.max() - 1.0 / d))


def flatten(depth: Depth, rng: np.random.Generator) -> Depth:
    """Squeezes the relief to a tenth: ln depth is drawn towards its median."""
    return _on_valid(depth, _curve(0.1))


def far_bound(share: float) -> DepthSpoil:
    """Throws a random rectangle with `share` of the pixels out to a thousand times the median."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        height, width = depth.shape
        rows, columns = (max(1, round(float(n) * share**0.5)) for n in depth.shape)
        top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        spoilt = depth.copy()
        valid = valid_mask(depth)
        spoilt[top : top + rows, left : left + columns] = 1000 * float(np.median(depth[valid]))
        return spoilt

    return corrupt


def holes(share: float) -> DepthSpoil:
    """Invalidates blotches that cover `share` of the pixels."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        noise = rng.standard_normal(depth.shape).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), min(depth.shape) / 28)
        return np.where(smooth < np.quantile(smooth, share), 0, depth).astype(np.float32)

    return corrupt


def quantise(levels: int) -> DepthSpoil:
    """Rounds disparity to so many levels between its nearest and its farthest."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        def rounded(d: NDArray[np.float64]) -> NDArray[np.float64]:
            nearest, farthest = 1 / d.min(), 1 / d.max()
            step = max(nearest - farthest, 1e-12) / (levels - 1)
            found: NDArray[np.float64] = 1 / (farthest + np.rint((1 / d - farthest) / step) * step)
            return found

        return _on_valid(depth, rounded)

    return corrupt


def seams(pixels: int) -> DepthSpoil:
    """Blocks of so many pixels, each off by its own factor of some 3 %, as of a model's patches."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        rows, columns = (-(-n // pixels) for n in depth.shape)
        factors = np.exp(0.03 * rng.standard_normal((rows, columns))).astype(np.float32)
        whole = np.kron(factors, np.ones((pixels, pixels), np.float32))
        return depth * whole[: depth.shape[0], : depth.shape[1]]

    return corrupt


CORRUPTIONS: tuple[Corruption, ...] = (
    Corruption("other sample's depth", "other", other_depth),
    of_depth("flip", "flip", flip),
    of_depth("shift 1 px", "shift", shift(1), mild=True),
    of_depth("shift 2 px", "shift", shift(2), mild=True),
    of_depth("shift 4 px", "shift", shift(4)),
    of_depth("shift 8 px", "shift", shift(8)),
    of_depth("shift 16 px", "shift", shift(16)),
    of_depth("warp 3.5 %", "warp", warp(0.035)),
    of_depth("blur σ 2 px", "blur", blur(2)),
    of_depth("gamma 2", "curve", gamma(2)),
    of_depth("tilt ±30 %", "tilt", tilt(0.3)),
    of_depth("inverted", "inverted", invert),
    of_depth("flattened", "curve", flatten),
    of_depth("object rescaled ×1.3", "object", rescale_object),
    of_depth("object moved 10 %", "object", move_object),
    of_depth("holes 30 %", "holes", holes(0.3)),
    of_depth("far bound 2 %", "far bound", far_bound(0.02)),
    of_depth("64 levels", "levels", quantise(64), mild=True),
    of_depth("seams of 8 px", "seams", seams(8)),
    of_depth("seams of 14 px", "seams", seams(14)),
    of_depth("seams of 16 px", "seams", seams(16)),
    # A field of view of 69° is said to be one of 52°, or of 88°.
    Corruption("focal length ×1.4", "camera", lens(1.4), "intrinsics"),
    Corruption("focal length ÷1.4", "camera", lens(1 / 1.4), "intrinsics"),
    Corruption("image ÷16", "exposure", brightness(1 / 16), "rgb"),
    Corruption("image ×16", "exposure", brightness(16), "rgb"),
    Corruption("image blurred σ 2 px", "blurred image", blurred_image(2), "rgb"),
    Corruption("other sample's prompt", "prompt", other_prompt, "text"),
)
"""All; each is tried where a check looks at what it spoils."""


def _on_valid(depth: Depth, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Depth:
    valid = valid_mask(depth)
    changed = np.zeros_like(depth)
    changed[valid] = change(depth[valid].astype(np.float64))
    return changed
