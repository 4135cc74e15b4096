"""Random choices as pure functions of names: the same on every machine and Python version.

Everything goes through SHA-256 and integers. Neither `hash()` nor a generator's state nor a
float takes part, so a choice depends on its own name only and not on what was drawn before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mfsynth.storage.digests import sha256_of_bytes


def _digest(parts: tuple[int | str, ...]) -> bytes:
    sha = hashlib.sha256()
    for part in parts:
        kind, data = (b"s", part) if isinstance(part, str) else (b"i", str(int(part)))
        encoded = data.encode()
        # Type and length make the encoding injective: ("ab", "c") differs from ("a", "bc").
        sha.update(b"%s%d:%s" % (kind, len(encoded), encoded))
    return sha.digest()


def derive_seed(*parts: int | str) -> int:
    """A seed that is a pure function of its parts.

    Args:
        parts: Integers of any size and strings, for example `(run_seed, "noise", candidate)`.

    Returns:
        An integer in [0, 2**63): the first 63 bits of a SHA-256 over the parts.
    """
    return int.from_bytes(_digest(parts)[:8]) >> 1


def draw_below(bound: int, *parts: int | str) -> int:
    """A uniform integer in [0, bound), a pure function of the parts.

    Args:
        bound: At least 1. The bias is below `bound / 2**256`.
        parts: What names this draw.
    """
    return int.from_bytes(_digest(parts)) % bound


def draw_weighted(weights: Sequence[int], *parts: int | str) -> int:
    """An index chosen in proportion to the weights, a pure function of the parts.

    Args:
        weights: Positive integers.
        parts: What names this draw.

    Returns:
        An index into `weights`.
    """
    point = draw_below(sum(weights), *parts)
    for index, weight in enumerate(weights):
        if point < weight:
            return index
        point -= weight
    raise AssertionError("unreachable: the point is below the sum of the weights")


def text_id(text: str) -> str:
    """A stable identifier of a text: the first 16 hexadecimal digits of its SHA-256."""
    return sha256_of_bytes(text.encode())[:16]
