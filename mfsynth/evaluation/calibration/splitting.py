"""Which images fit the fused score, and which judge it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

FITTING: Final = 4
"""Of so many parts of the images one fits the fused score, which has few weights; the others give
limits."""
HALVES: Final = 2
"""Parts of which each is judged by what the other one fits, for figures of power."""


def split(images: NDArray[np.intp], seed: int, parts: int) -> NDArray[np.bool_]:
    """The pairs of one of so many equal parts of the images, by chance."""
    numbers = np.random.default_rng([seed, 5]).permutation(np.unique(images))
    return np.isin(images, numbers[: len(numbers) // parts])


def parts_of(images: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """(n,) numbers of parts: pairs with one number are together in every split."""
    # A smaller part lies in each larger one.
    return np.sum([split(images, seed, n) for n in (FITTING, HALVES)], axis=0)
