"""Procedural surfaces, made from value noise: no image files to ship or license."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SIZE = 256
"""Rows and columns of every texture."""


def surface(kind: str, rgb: tuple[float, float, float], rng: Generator) -> NDArray[np.uint8]:
    """A square texture.

    Args:
        kind: "wooden" has grain and planks; everything else a fine mottle.
        rgb: Its mean colour, each in [0, 1].
        rng: Decides the pattern.

    Returns:
        uint8 (SIZE, SIZE, 3).
    """
    size = SIZE
    if kind == "wooden":
        pattern = _wood(size, rng)
        strength = 0.22
    else:
        pattern = 0.6 * _noise(size, (24, 24), rng) + 0.4 * _noise(size, (96, 96), rng)
        strength = 0.10
    shade = 1 + strength * pattern[..., None]
    colour = np.asarray(rgb, dtype=np.float32)
    return np.clip(255 * colour * shade, 0, 255).astype(np.uint8)


def _noise(size: int, cells: tuple[int, int], rng: Generator) -> NDArray[np.float32]:
    """Smooth noise in [-1, 1] with about the given number of cells down and across."""
    coarse = rng.uniform(-1, 1, cells).astype(np.float32)
    smooth: NDArray[np.float32] = cv2.resize(
        coarse, (size, size), interpolation=cv2.INTER_CUBIC
    ).astype(np.float32)
    return smooth


def _wood(size: int, rng: Generator) -> NDArray[np.float32]:
    planks = 5
    rows = np.arange(size) * planks // size
    tone = rng.uniform(-0.7, 0.7, planks).astype(np.float32)[rows][:, None]
    grain = 0.7 * _noise(size, (80, 4), rng) + 0.4 * _noise(size, (160, 9), rng)
    seams = np.zeros((size, 1), dtype=np.float32)
    seams[np.flatnonzero(np.diff(rows, prepend=rows[0])), 0] = -2.0
    pattern: NDArray[np.float32] = 0.6 * tone + grain + seams
    return pattern
