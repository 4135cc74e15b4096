"""Which of many perceptual hashes are near an earlier one, exactly, and in bounded memory.

64 bits are cut into three pieces more than bits may differ: two hashes that are near have three of
the pieces in common, whichever bits differ (the pigeonhole). So for each choice of three pieces the
hashes are sorted by these, and only those that agree in them are compared. One such table is there
at a time: memory grows with the number of hashes and with nothing else, however alike they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from mfsynth.shards.perceptual_hash import BITS

MOST_BITS = 8
"""Hashes that differ by more bits are of images that are not much alike."""

_EQUAL_PIECES = 3
# Of each piece so many bits are looked at, at most: a table of counts stays small.
_PIECE_BITS = 7
# Of fewer hashes to sort all is faster than to count first which keys occur once.
_FEW = 2**16
# Rows that are compared together; larger parts would only take more memory.
_PART = 2**20

_Hashes = NDArray[np.uint64]
_Rows = NDArray[np.int64]
_Mask = NDArray[np.bool_]


def without_near_duplicates(hashes: NDArray[np.int64], within: int) -> _Mask:
    """Which stay when each is taken in turn, unless it is near one that was taken before.

    Args:
        hashes: In the order in which they are taken; at most 2**31.
        within: Bits by which near ones differ at most, from 0 to `MOST_BITS`.
    """
    if not 0 <= within <= MOST_BITS:
        raise ValueError(f"within is {within}, not 0 to {MOST_BITS}")
    stays = np.zeros(len(hashes), bool)
    # Of equal ones only the first can stay.
    unique, first = np.unique(hashes, return_index=True)
    open_rows: _Rows = np.sort(first)
    del unique, first
    bits = hashes.view(np.uint64)
    while within and len(open_rows):
        # Who has none before it that is still open stays; who is near that one goes.
        later = _near_an_earlier(bits[open_rows], within)
        stays[open_rows[~later]] = True
        if not later.any():
            return stays
        gone = _near_one_that_stays(bits[open_rows], ~later, within)
        open_rows = open_rows[later & ~gone]
    stays[open_rows] = True
    return stays


def _near_an_earlier(hashes: _Hashes, within: int) -> _Mask:
    """Which are near another one that comes before them."""
    found = np.zeros(len(hashes), bool)
    for keys in _tables(hashes, within):
        rows = np.arange(len(hashes))
        if len(hashes) > _FEW:
            rows = rows[np.bincount(keys)[keys] > 1]
        rows, keys = _grouped(keys, rows)
        for begin in range(0, len(rows), _PART):
            at = np.arange(begin, min(begin + _PART, len(rows)))
            distance = 0
            while True:
                distance += 1
                at = at[at >= distance]
                at = at[(keys[at] == keys[at - distance]) & ~found[rows[at]]]
                if not len(at):
                    break
                found[rows[at[_near(hashes[rows[at]], hashes[rows[at - distance]], within)]]] = True
    return found


def _near_one_that_stays(hashes: _Hashes, stays: _Mask, within: int) -> _Mask:
    """Which of the others are near one that stays."""
    found = np.zeros(len(hashes), bool)
    kept, others = np.flatnonzero(stays), np.flatnonzero(~stays)
    for keys in _tables(hashes, within):
        asked = others[~found[others]]
        wanted = np.zeros(int(keys.max()) + 1, bool)
        wanted[keys[asked]] = True
        rows, there = _grouped(keys, kept[wanted[keys[kept]]])
        for begin in range(0, len(asked), _PART):
            part = asked[begin : begin + _PART]
            at = np.searchsorted(there, keys[part])
            while True:
                more = at < len(there)
                part, at = part[more], at[more]
                more = (there[at] == keys[part]) & ~found[part]
                part, at = part[more], at[more]
                if not len(part):
                    break
                found[part[_near(hashes[part], hashes[rows[at]], within)]] = True
                at = at + 1
    return found


def _near(some: _Hashes, others: _Hashes, within: int) -> _Mask:
    return np.bitwise_count(some ^ others) <= within


def _grouped(keys: NDArray[np.uint32], rows: _Rows) -> tuple[_Rows, NDArray[np.uint32]]:
    """Rows by their keys, those of one key in their order; and the keys."""
    packed = keys[rows].astype(np.uint64) << np.uint64(32) | rows.astype(np.uint64)
    packed.sort()
    return (packed & np.uint64(2**32 - 1)).astype(np.int64), (packed >> 32).astype(np.uint32)


def _tables(hashes: _Hashes, within: int) -> Iterator[NDArray[np.uint32]]:
    """Of each choice of pieces, these bits of all hashes as one small number."""
    count = within + _EQUAL_PIECES
    ends = [BITS * piece // count for piece in range(count + 1)]
    for chosen in combinations(pairwise(ends), _EQUAL_PIECES):
        keys = np.zeros(len(hashes), np.uint64)
        for begin, end in chosen:
            width = min(end - begin, _PIECE_BITS)
            piece = (hashes >> np.uint64(begin)) & np.uint64(2**width - 1)
            keys = keys << np.uint64(width) | piece
        yield keys.astype(np.uint32)
