from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfsynth.datasets.order import MixedOrder, Order, shares_of

orders = st.builds(
    Order,
    count=st.integers(1, 200),
    seed=st.integers(0, 2**70),
    epoch=st.integers(0, 5),
    block=st.integers(1, 40),
)


@given(orders)
def test_an_epoch_has_each_sample_once(order):
    assert sorted(order.rows(0, order.count)) == [*range(order.count)]


@given(orders, st.integers(1, 50))
def test_it_is_the_same_in_pieces_of_any_size(order, size):
    whole = order.rows(0, order.count)
    pieces = [order.rows(at, min(at + size, order.count)) for at in range(0, order.count, size)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    # Behind the end it begins again.
    np.testing.assert_array_equal(order.rows(order.count, 2 * order.count), whole)


@given(orders)
def test_the_samples_of_a_block_stay_together(order):
    blocks = order.rows(0, order.count) // order.block
    assert np.count_nonzero(np.diff(blocks)) == len(set(blocks)) - 1


def test_seed_and_epoch_decide_it_and_any_version_gives_the_same():
    first = Order(1000, seed=3)
    assert first.rows(0, 12).tolist() == [
        *(500, 507, 510, 496, 511, 499, 497, 503, 504, 501, 505, 502),
    ]
    others = [
        *(Order(1000, seed=seed) for seed in (4, 3 + 2**32, 3 + 2**64)),
        *(Order(1000, seed=3, **{name: 1}) for name in ("epoch", "part")),
        Order(1000, seed=3, epoch=2**32),
    ]
    rows = {tuple(order.rows(0, 1000)) for order in [first, *others]}
    assert len(rows) == 7
    assert Order(1000, shuffle=False).rows(5, 9).tolist() == [5, 6, 7, 8]


mixtures = st.integers(1, 4).flatmap(
    lambda parts: st.builds(
        MixedOrder,
        counts=st.tuples(*[st.integers(1, 60)] * parts),
        weights=st.tuples(*[st.floats(0.01, 1)] * parts),
        seed=st.integers(0, 99),
        epoch=st.integers(0, 3),
        block=st.integers(1, 9),
        shuffle=st.booleans(),
        length=st.integers(1, 9000),
    )
)


@settings(max_examples=40)
@given(mixtures, st.integers(0, 5000), st.integers(1, 5000), st.integers(0, 5000))
def test_a_mixture_is_the_same_in_pieces_and_over_the_end_of_an_epoch(order, start, size, cut):
    whole = order.rows(start, start + size)
    middle = start + cut % (size + 1)
    pieces = [order.rows(start, middle), order.rows(middle, start + size)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    following = replace(order, epoch=order.epoch + 1)
    np.testing.assert_array_equal(
        order.rows(order.length, order.length + 50), following.rows(0, 50)
    )


def test_each_part_of_a_mixture_has_its_share_and_is_gone_through_whole():
    order = MixedOrder((50, 500), (3, 1), seed=1, epoch=0, block=4, shuffle=True, length=550)
    rows = order.rows(0, 8192)
    small = rows[rows < 50]
    assert len(small) == 6144
    for again in range(100):
        assert sorted(small[50 * again : 50 * (again + 1)]) == [*range(50)]
    assert len({*rows[rows >= 50][:500]}) == 500
    # Neither comes in long runs.
    changes = np.flatnonzero(np.diff(rows < 50))
    assert np.diff(changes).max() < 60


def test_shares_come_to_the_whole_and_a_weight_that_comes_to_nothing_is_refused():
    assert shares_of((1, 1, 1)) == (1366, 1365, 1365)
    for weights in ((1.0, 0.0), (1.0, -1.0), (1.0, float("nan")), (1.0, 1e-6)):
        with pytest.raises(ValueError, match="weights are"):
            shares_of(weights)
