"""A number that like images have alike: 64 bits of an image's lowest frequencies.

After Zauner (2010), "Implementation and Benchmarking of Perceptual Image Hash Functions", section
3.2.1: a small grey picture, its discrete cosine transform, and of the 8x8 coefficients behind the
constant ones a bit each: whether it is above their median.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry.rgbd import RgbImage

BITS = 64

_SIDE = 32
_FREQUENCIES = np.arange(1, 9)
_LUMA = np.array([0.299, 0.587, 0.114])
# Coefficients of this many parts of a grey value. What arithmetic loses is far less, so that every
# machine has the same bits, and an image of one colour no bit at all.
_STEPS = 1000


def perceptual_hash(rgb: RgbImage) -> int:
    """The hash of an image, uint8 (H, W, 3), of any size.

    Returns:
        64 bits as a signed number; the first coefficient is the highest bit. How many bits of two
        hashes differ says how much the images do: of unrelated ones half of them.
    """
    height, width, _ = rgb.shape
    rows = (_to_frequencies(height) @ rgb.reshape(height, -1)).reshape(-1, width, 3) @ _LUMA
    coefficients = np.rint(rows @ _to_frequencies(width).T * _STEPS).astype(np.int64).ravel()
    low, high = np.sort(coefficients)[BITS // 2 - 1 : BITS // 2 + 1]
    bits = np.packbits(2 * coefficients > low + high)
    return int.from_bytes(bits.tobytes(), "big", signed=True)


@lru_cache(maxsize=16)
def _to_frequencies(size: int) -> NDArray[np.float64]:
    """Means over areas of `size` pixels, then their cosines: (8, size)."""
    edges = np.arange(_SIDE + 1) * size / _SIDE
    pixels = np.arange(size)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    means = np.maximum(shares, 0) * _SIDE / size
    cosines = np.cos(np.pi / _SIDE * np.outer(_FREQUENCIES, np.arange(_SIDE) + 0.5))
    return cosines @ means / _SIDE
