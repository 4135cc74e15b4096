from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfsynth.shards import duplicates
from mfsynth.shards.duplicates import MOST_BITS, without_near_duplicates


def one_by_one(hashes, within: int) -> list[bool]:
    """By comparing each with all that stay."""
    kept: list[int] = []
    stays = []
    for value in hashes.view(np.uint64).tolist():
        stays.append(all((value ^ other).bit_count() > within for other in kept))
        if stays[-1]:
            kept.append(value)
    return stays


def groups(rng, count: int, centres: int, flips: int):
    """Hashes around centres: many near, many just beyond."""
    hashes = rng.integers(-(2**63), 2**63, centres)[rng.integers(centres, size=count)]
    for _ in range(flips):
        hashes = hashes ^ (np.int64(1) << rng.integers(0, 64, count))
    return hashes


@settings(max_examples=40)
@given(
    st.integers(0, MOST_BITS),
    st.integers(0, 120),
    st.integers(1, 6),
    st.integers(0, 9),
    st.integers(0, 2**32),
)
def test_those_stay_that_a_comparison_of_all_leaves(within, count, centres, flips, seed):
    hashes = groups(np.random.default_rng(seed), count, centres, flips)
    assert without_near_duplicates(hashes, within).tolist() == one_by_one(hashes, within)


@settings(max_examples=40)
@given(st.integers(0, MOST_BITS), st.sets(st.integers(0, 63), max_size=MOST_BITS + 1))
def test_two_are_near_whichever_bits_differ(within, bits):
    value = np.int64(0x0F1E2D3C4B5A6978)
    other = value
    for bit in bits:
        other ^= np.uint64(1 << bit).view(np.int64)
    stays = without_near_duplicates(np.array([value, other]), within)
    assert stays.tolist() == [True, len(bits) > within]


def test_the_first_stays_and_what_is_near_one_that_went_may_stay():
    chain = np.array([0, 0b111111, 0b111111 << 6 | 0b111111, 0], np.int64)
    assert without_near_duplicates(chain, 6).tolist() == [True, False, True, False]


def test_parts_of_a_large_run_give_the_same(monkeypatch):
    hashes = groups(np.random.default_rng(5), 1000, 150, 3)
    whole = without_near_duplicates(hashes, 2)
    assert whole.tolist() == one_by_one(hashes, 2)
    monkeypatch.setattr(duplicates, "_PART", 100)
    monkeypatch.setattr(duplicates, "_FEW", 0)
    assert np.array_equal(without_near_duplicates(hashes, 2), whole)


def test_what_comes_later_changes_nothing_of_what_was_decided():
    hashes = groups(np.random.default_rng(6), 1000, 50, 4)
    whole = without_near_duplicates(hashes, 6)
    for count in (1, 777):
        assert np.array_equal(without_near_duplicates(hashes[:count], 6), whole[:count])


@pytest.mark.parametrize("within", [-1, MOST_BITS + 1])
def test_a_distance_that_is_not_provided_for_is_refused(within):
    with pytest.raises(ValueError, match="within"):
        without_near_duplicates(np.zeros(2, np.int64), within)
