from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mfsynth.datasets.order import Order

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
        *(342, 346, 348, 341, 337, 350, 340, 345, 338, 339, 343, 351),
    ]
    others = [Order(1000, seed=4), Order(1000, seed=3, epoch=1), Order(1000, seed=3 + 2**32)]
    rows = {tuple(order.rows(0, 1000)) for order in [first, *others]}
    assert len(rows) == 4
    assert Order(1000, shuffle=False).rows(5, 9).tolist() == [5, 6, 7, 8]
