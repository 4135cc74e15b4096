"""Named ways to spoil a good RGB-D pair, to measure what a check sees and what it misses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from mfsynth.checks.validity import valid_mask

Depth = NDArray[np.float32]
Corruption = Callable[[Depth, np.random.Generator], Depth]
"""Takes a depth map (H, W), 0 = invalid, and returns a spoilt one of the same shape."""


def shift(pixels: float) -> Corruption:
    """Moves the depth map by `pixels` (at 224 on the shorter side) in a random direction."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        distance = max(1, round(pixels * _size(depth)))
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


def warp(pixels: float) -> Corruption:
    """Bends the depth map by a smooth random field of up to `pixels` (at 224)."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        height, width = depth.shape
        dx, dy = (
            cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
            for coarse in rng.uniform(-1, 1, (2, 4, 4)).astype(np.float32)
        )
        amount = pixels * _size(depth) / max(float(np.abs(dx).max()), float(np.abs(dy).max()))
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


def blur(sigma: float) -> Corruption:
    """Blurs the depth map over its valid pixels, `sigma` in pixels of the map itself."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        valid = valid_mask(depth)
        weight = cv2.GaussianBlur(valid.astype(np.float32), (0, 0), sigma)
        total = cv2.GaussianBlur(np.where(valid, depth, np.float32(0)), (0, 0), sigma)
        return np.where(valid, total / np.maximum(weight, 1e-6), 0).astype(np.float32)

    return corrupt


def gamma(power: float) -> Corruption:
    """Bends the depth curve: d becomes d ** power around its median."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        return _on_valid(depth, lambda d: float(np.median(d)) * (d / np.median(d)) ** power)

    return corrupt


def tilt(strength: float) -> Corruption:
    """Multiplies depth by a ramp from 1 - strength to 1 + strength in a random direction."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in depth.shape), indexing="ij")
        ramp = (np.cos(angle) * x + np.sin(angle) * y) / np.sqrt(2)
        tilted: Depth = (depth * (1 + strength * ramp)).astype(np.float32)
        return tilted

    return corrupt


def blob(factor: float) -> Corruption:
    """Pushes a random ellipse a third of the image wide away by `factor`."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        height, width = depth.shape
        centre_y, centre_x = rng.uniform(0.25, 0.75, 2) * (height, width)
        y, x = np.ogrid[:height, :width]
        inside = ((y - centre_y) / height) ** 2 + ((x - centre_x) / width) ** 2 < (1 / 6) ** 2
        return np.where(inside, depth * np.float32(factor), depth).astype(np.float32)

    return corrupt


def invert(depth: Depth, rng: np.random.Generator) -> Depth:
    """Turns near into far: disparity is mirrored within its own range."""
    return _on_valid(depth, lambda d: 1.0 / (1.0 / d.min() + 1.0 / d.max() - 1.0 / d))


def flatten(depth: Depth, rng: np.random.Generator) -> Depth:
    """Squeezes the relief to a tenth: ln depth is drawn towards its median."""
    return gamma(0.1)(depth, rng)


def far_bound(share: float) -> Corruption:
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


def holes(share: float) -> Corruption:
    """Invalidates blotches that cover `share` of the pixels."""

    def corrupt(depth: Depth, rng: np.random.Generator) -> Depth:
        noise = rng.standard_normal(depth.shape).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), 8 * _size(depth))
        return np.where(smooth < np.quantile(smooth, share), 0, depth).astype(np.float32)

    return corrupt


def other_depth(depths: Sequence[Depth], index: int) -> Depth:
    """Depth map of another pair: the one half-way round the list from `index`."""
    return depths[(index + len(depths) // 2) % len(depths)]


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "flip": flip,
        "shift 4 px": shift(4),
        "shift 8 px": shift(8),
        "warp 8 px": warp(8),
        "blur σ2": blur(2),
        "gamma 2": gamma(2),
        "tilt": tilt(0.3),
        "blob ×1.5": blob(1.5),
        "inverted": invert,
        "flattened": flatten,
        "far bound 2 %": far_bound(0.02),
        "holes 60 %": holes(0.6),
    }
)
"""Those that misplace or distort depth, and those that only the validity check is for."""


def _size(depth: Depth) -> float:
    """Shorter side in units of the 224 pixels at which the corruptions are defined."""
    return float(min(depth.shape)) / 224


def _on_valid(depth: Depth, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Depth:
    valid = valid_mask(depth)
    changed = np.zeros_like(depth)
    changed[valid] = change(depth[valid].astype(np.float64))
    return changed
