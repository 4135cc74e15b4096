"""Synthetic scenes for the tests of the checks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

_FRAMES = Path(__file__).parents[1] / "data" / "real_rgbd"


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


def real_pairs(side: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The middle squares of measured frames, scaled: RGB, and depth in metres with 0 = invalid."""
    pairs = []
    for frame in json.loads((_FRAMES / "frames.json").read_text(encoding="utf-8")):
        rgb = cv2.imread(str(_FRAMES / frame["rgb"]), cv2.IMREAD_COLOR_RGB)
        codes = cv2.imread(str(_FRAMES / frame["depth"]), cv2.IMREAD_UNCHANGED)
        left = (codes.shape[1] - codes.shape[0]) // 2
        square = np.s_[:, left : left + codes.shape[0]]
        depth = codes[square].astype(np.float32) * np.float32(frame["depth_unit_m_per_code"])
        size, nearest = (side, side), cv2.INTER_NEAREST_EXACT
        pairs.append(
            (
                cv2.resize(rgb[square], size, interpolation=cv2.INTER_AREA),
                cv2.resize(depth, size, interpolation=nearest),
            )
        )
    return pairs
