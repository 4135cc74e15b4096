"""Random order with random access."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

_ROUNDS = 4


def shuffled(position: int, count: int, key: tuple[int, ...]) -> int:
    """Element `position` of a pseudorandom order of range(count), without making the others.

    A Feistel network permutes the next power of four; numbers from `count` on are permuted again
    until one is below, which leaves a permutation of range(count).

    Args:
        position: In range(count).
        count: From 1.
        key: Another key, another order; numbers from 0.
    """
    half = ((count - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1
    rounds = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64).tolist()
    number = position
    while True:
        left, right = number >> half, number & mask
        for round_key in rounds:
            data = right.to_bytes(8, "little") + round_key.to_bytes(8, "little")
            mixed = int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
            left, right = right, left ^ (mixed & mask)
        number = left << half | right
        if number < count:
            return number
