"""Procedural surfaces, made from value noise: no image files to ship or license."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SIZE = 256
"""Rows and columns of a surface."""
SIDE = 64
"""Rows and columns of a face of a cube map."""
_JOINT = 2 / SIZE


def surface(kind: str, rgb: tuple[float, float, float], rng: Generator) -> NDArray[np.uint8]:
    """A square texture.

    Args:
        kind: "wooden" has grain and planks, "tiled" and "brick" have joints, "marble" has veins,
            "checked" squares and "banded" bands of two tones; everything else a fine mottle.
        rgb: Its mean colour, each in [0, 1].
        rng: Decides the pattern.

    Returns:
        uint8 (SIZE, SIZE, 3).
    """
    pattern, strength = _PATTERNS.get(kind, _mottled)(rng)
    return _tint(rgb, 1 + strength * pattern)


def decoration(finish: str, rgb: tuple[float, float, float], rng: Generator) -> NDArray[np.uint8]:
    """The six faces of a cube map around a striped or spotted object, in MuJoCo's order.

    The second colour is light, on a light object dark; the first keeps most of the surface.

    Args:
        finish: "striped" or "spotted".
        rgb: The object's colour, each in [0, 1].
        rng: Decides where stripes and spots are.

    Returns:
        uint8 (6 · SIDE, SIDE, 3): right, left, up, down, front, back.
    """
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    if finish == "striped":
        bands = (4 * rows + rng.uniform()) % 1 < 0.36
        flat = np.zeros_like(bands)
        faces = [bands, bands, flat, flat, bands, bands]
    else:
        faces = [_spots(rows, columns, rng) for _ in range(6)]
    marked = np.concatenate(faces)
    first = np.asarray(rgb, np.float32)
    second = np.float32(0.12 if min(rgb) > 0.7 else 0.92)
    return (255 * np.where(marked[..., None], second, first)).astype(np.uint8)


def _spots(
    rows: NDArray[np.float64], columns: NDArray[np.float64], rng: Generator
) -> NDArray[np.bool_]:
    x, y = (3 * columns + rng.uniform()) % 1 - 0.5, (3 * rows + rng.uniform()) % 1 - 0.5
    spots: NDArray[np.bool_] = np.hypot(x, y) < 0.28
    return spots


def _tint(rgb: tuple[float, float, float], shade: NDArray[np.floating]) -> NDArray[np.uint8]:
    colour = np.asarray(rgb, dtype=np.float32)
    return np.clip(255 * colour * shade[..., None], 0, 255).astype(np.uint8)


def _noise(cells: tuple[int, int], rng: Generator) -> NDArray[np.float32]:
    """Smooth noise in [-1, 1] with about the given number of cells down and across."""
    coarse = rng.uniform(-1, 1, cells).astype(np.float32)
    smooth: NDArray[np.float32] = cv2.resize(
        coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC
    ).astype(np.float32)
    return smooth


def _mottled(rng: Generator) -> tuple[NDArray[np.float32], float]:
    return 0.6 * _noise((24, 24), rng) + 0.4 * _noise((96, 96), rng), 0.10


def _wooden(rng: Generator) -> tuple[NDArray[np.float32], float]:
    planks = 5
    rows = np.arange(SIZE) * planks // SIZE
    tone = rng.uniform(-0.7, 0.7, planks).astype(np.float32)[rows][:, None]
    grain = 0.7 * _noise((80, 4), rng) + 0.4 * _noise((160, 9), rng)
    seams = np.zeros((SIZE, 1), dtype=np.float32)
    seams[np.flatnonzero(np.diff(rows, prepend=rows[0])), 0] = -2.0
    return 0.6 * tone + grain + seams, 0.22


def _marble(rng: Generator) -> tuple[NDArray[np.float32], float]:
    folds = _noise((5, 5), rng) + 0.5 * _noise((14, 14), rng)
    veins = -np.exp(-((folds / 0.07) ** 2))
    return veins + 0.3 * _noise((12, 12), rng), 0.30


def _tiled(rng: Generator) -> tuple[NDArray[np.float32], float]:
    return _joints(rng, down=8, across=8, shift=0.0), 0.18


def _brick(rng: Generator) -> tuple[NDArray[np.float32], float]:
    return _joints(rng, down=20, across=8, shift=0.5), 0.25


def _checked(rng: Generator) -> tuple[NDArray[np.float32], float]:
    rows, columns = np.mgrid[:SIZE, :SIZE] * int(rng.integers(3, 11)) // SIZE
    return _contrast(2 * ((rows + columns) % 2) - 1, rng)


def _banded(rng: Generator) -> tuple[NDArray[np.float32], float]:
    along = np.mgrid[:SIZE, :SIZE][int(rng.integers(2))] / SIZE
    return _contrast(np.sin(2 * np.pi * int(rng.integers(3, 11)) * along), rng)


def _contrast(
    pattern: NDArray[np.floating | np.integer], rng: Generator
) -> tuple[NDArray[np.float32], float]:
    """A pattern of -1 to 1, rather strong, and a little noise."""
    return (pattern + 0.3 * _noise((24, 24), rng)).astype(np.float32), rng.uniform(0.1, 0.5)


def _joints(rng: Generator, down: int, across: int, shift: float) -> NDArray[np.float32]:
    """Rectangles of slightly different tones with light joints between, rows shifted in turn."""
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    course = np.floor(rows * down)
    y, x = rows * down - course, columns * across + shift * (course % 2)
    tones = rng.uniform(-0.6, 0.6, (down, across))
    tone = tones[course.astype(int), np.floor(x).astype(int) % across]
    joint = (y < _JOINT * down) | (x % 1 < _JOINT * across)
    return np.where(joint, 1.6, tone).astype(np.float32)


_PATTERNS: Mapping[str, Callable[[Generator], tuple[NDArray[np.float32], float]]] = {
    "wooden": _wooden,
    "marble": _marble,
    "tiled": _tiled,
    "brick": _brick,
    "checked": _checked,
    "banded": _banded,
}
