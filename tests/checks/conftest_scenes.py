"""Synthetic scenes for the tests of the checks."""

from __future__ import annotations

import cv2
import numpy as np


def make_scene(side: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of their own colour before a wall, perfectly registered; RGB and depth."""
    rng = np.random.default_rng(seed)
    rgb = np.full((side, side, 3), 90, np.uint8)
    depth = np.full((side, side), 4.0, np.float32)
    for z in (3.0, 2.2, 1.5):
        height, width = rng.integers(side // 4, side // 2, 2)
        top, left = rng.integers(side // 8, side - side // 8 - max(height, width), 2)
        box = np.s_[top : top + height, left : left + width]
        rgb[box] = rng.integers(0, 256, 3)
        depth[box] = z
    noise = rng.normal(0, 4, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8), depth


def moved(depth: np.ndarray, pixels: int) -> np.ndarray:
    """The depth map moved right and down by some pixels; its top left border is repeated."""
    padded = cv2.copyMakeBorder(depth, pixels, 0, pixels, 0, cv2.BORDER_REPLICATE)
    return padded[: depth.shape[0], : depth.shape[1]]
