from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mfsynth.prompts import derive_seed
from mfsynth.prompts.hashing import draw_below, draw_weighted, text_id

_PARTS = st.lists(st.integers() | st.text(st.characters(exclude_categories=["Cs"])), max_size=4)


def test_seeds_are_the_same_on_every_machine_and_python_version() -> None:
    # Made with sha256sum of the encoding: "", "i1:0s5:noisei1:0", "i1:7s5:noisei9:123456789".
    assert derive_seed() == 8203414616412130826
    assert derive_seed(0, "noise", 0) == 4539287498506126977
    assert derive_seed(7, "noise", 123456789) == 4586600753825276214
    assert text_id("a red cube") == "9f967626aad36812"


@given(_PARTS, _PARTS)
def test_seeds_are_63_bit_and_tell_different_parts_apart(one: list, other: list) -> None:
    assert 0 <= derive_seed(*one) < 2**63
    assert (derive_seed(*one) == derive_seed(*other)) == (one == other)


def test_texts_and_integers_and_borders_between_parts_count() -> None:
    assert len({derive_seed(*p) for p in [(12,), ("12",), (1, 2), ("1", "2"), (1, "2")]}) == 5
    assert derive_seed("ab", "c") != derive_seed("a", "bc")


@given(st.integers(1, 10**30), _PARTS)
def test_draws_stay_below_their_bound(bound: int, parts: list) -> None:
    assert 0 <= draw_below(bound, *parts) < bound


def test_weighted_draws_follow_the_weights() -> None:
    weights, total = [1, 2, 5], 8000
    counts = Counter(draw_weighted(weights, "test", i) for i in range(total))
    expected = [total * weight / sum(weights) for weight in weights]
    chi2 = sum((counts[i] - expected[i]) ** 2 / expected[i] for i in range(3))
    # 99.9 % of fair draws stay below it at two degrees of freedom; the draws are fixed anyway.
    assert chi2 < 13.8
