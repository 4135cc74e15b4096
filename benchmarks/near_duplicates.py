"""What near-duplicates cost: the hash of an image, and the search over a run, as Markdown tables.

    python benchmarks/near_duplicates.py [--hashes 100000 1000000]

1. `perceptual_hash` of images, CPU milliseconds an image on one thread.
2. `without_near_duplicates` within 6 bits: CPU seconds, and the most memory that arrays take beside
   the hashes (`tracemalloc`, which sees those of NumPy), for hashes of four kinds:

   - random, one in twenty a copy of another one with three other bits;
   - skewed: each bit is 1 with a probability between 1/4 and 3/4, as of images that are much alike;
   - groups of a thousand around random centres, four bits off on average;
   - one group: all around one centre.

   The last column is bytes a hash. Memory is that of a few arrays of as many numbers as there are
   hashes, so that for ten million it is ten million times as many.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mfsynth.shards.duplicates import without_near_duplicates
from mfsynth.shards.perceptual_hash import perceptual_hash

WITHIN = 6
SIDES = (256, 512, 1024)
GROUP = 1000
REPEATS = 20


def random_hashes(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Uniform ones, one in twenty near another one."""
    hashes = rng.integers(-(2**63), 2**63, count)
    copies = rng.permutation(count)[: count // 20]
    hashes[copies] = _flipped(hashes[rng.permutation(count)[: len(copies)]], 3, rng)
    return hashes


def skewed_hashes(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Ones whose bits are more often 1, or 0, than not."""
    chances = rng.uniform(0.25, 0.75, 64)
    hashes = np.zeros(count, np.int64)
    for bit, chance in enumerate(chances):
        hashes |= (rng.random(count) < chance).astype(np.int64) << bit
    return hashes


def grouped_hashes(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Ones around one centre in a thousand."""
    centres = rng.integers(-(2**63), 2**63, -(-count // GROUP))
    return _flipped(centres[rng.integers(len(centres), size=count)], 4, rng)


def one_group(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Ones around one centre."""
    return _flipped(np.full(count, rng.integers(-(2**63), 2**63)), 4, rng)


def _flipped(hashes: NDArray[np.int64], bits: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """With up to so many other bits."""
    for _ in range(bits):
        hashes = hashes ^ (np.int64(1) << rng.integers(0, 64, len(hashes)))
    return hashes


KINDS: dict[str, Callable[[int, np.random.Generator], NDArray[np.int64]]] = {
    "random, 5 % copies": random_hashes,
    "skewed": skewed_hashes,
    "groups of 1,000": grouped_hashes,
    "one group": one_group,
}


def hashing() -> None:
    """Print the first table."""
    print("| image | ms |\n|---|---|")
    for side in SIDES:
        image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        perceptual_hash(image)
        began = time.process_time()
        for _ in range(REPEATS):
            perceptual_hash(image)
        spent = (time.process_time() - began) / REPEATS
        print(f"| {side}x{side} | {1000 * spent:.1f} |", flush=True)


def searching(counts: list[int]) -> None:
    """Print the second one."""
    print("\n| hashes | of them | stay | CPU s | MB beside them | bytes a hash |")
    print("|---|---|---|---|---|---|")
    for count in counts:
        for name, make in KINDS.items():
            hashes = make(count, np.random.default_rng(0))
            began = time.process_time()
            stay = int(without_near_duplicates(hashes, WITHIN).sum())
            spent = time.process_time() - began
            tracemalloc.start()
            without_near_duplicates(hashes, WITHIN)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            print(
                f"| {count:,} | {name} | {stay:,} | {spent:.1f} | {peak / 1e6:.0f} "
                f"| {peak / count:.0f} |",
                flush=True,
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hashes", type=int, nargs="+", default=[100_000, 1_000_000])
    options = parser.parse_args()
    hashing()
    searching(options.hashes)


if __name__ == "__main__":
    main()
