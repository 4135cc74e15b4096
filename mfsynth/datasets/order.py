"""The order in which a loader hands out samples: a function of seed and epoch alone.

Blocks of neighbours come in random order, and the samples of a block, too: neighbours lie side by
side in their tar and are read at once. Nothing of it depends on how many processes share the work.
Only raw words of Philox are drawn, and sorted stably, so that an order is the same with every
version of NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

_PERIOD = 4096


@dataclass(frozen=True)
class Order:
    """A permutation of range(count), made piece by piece.

    Attributes:
        count: How many samples there are.
        seed: Any integer from 0.
        epoch: Another epoch, another permutation.
        block: Samples that stay together; 1 for none.
        shuffle: False for the samples as they are.
        part: Number of the data set in a mixture: two of one size have orders of their own.
    """

    count: int
    seed: int = 0
    epoch: int = 0
    block: int = 16
    shuffle: bool = True
    part: int = 0

    def rows(self, start: int, stop: int) -> Rows:
        """Elements `start` to `stop` of the permutation; from `count` on, it begins again.

        Costs memory for the pieces only, but for 8 bytes a block.
        """
        positions = np.arange(start, stop, dtype=np.int64) % self.count
        if not self.shuffle:
            return positions
        slots, offsets = self._slots(positions)
        rows = np.empty_like(positions)
        for slot in np.unique(slots):
            mine = slots == slot
            rows[mine] = self._block(int(self._blocks[slot]))[offsets[mine]]
        return rows

    @cached_property
    def _blocks(self) -> Rows:
        """The numbers of the blocks, in their order."""
        return _permutation(-(-self.count // self.block), "blocks", *self._key)

    @cached_property
    def _short(self) -> int:
        """Where in the order the last block is, which may be shorter than the others."""
        return int(np.flatnonzero(self._blocks == len(self._blocks) - 1)[0])

    def _slots(self, positions: Rows) -> tuple[Rows, Rows]:
        """For positions in the permutation, which block in order, and where in it."""
        missing = len(self._blocks) * self.block - self.count
        # As if the short block were whole.
        behind = positions >= (self._short + 1) * self.block - missing
        return np.divmod(positions + np.where(behind, missing, 0), self.block)

    def _block(self, number: int) -> Rows:
        first = number * self.block
        size = min(self.block, self.count - first)
        return first + _permutation(size, "block", *self._key, number)

    @property
    def _key(self) -> tuple[int, int, int]:
        return self.seed, self.epoch, self.part


_Made = TypeVar("_Made")


class LastTwo(Generic[_Made]):
    """The orders of two epochs, which go on being used, and are not made again for every batch.

    Safe for threads: at worst two of them make the same one. Sent to another process, it is empty
    there.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple[int, _Made], ...] = ()

    def __reduce__(self) -> tuple[type[LastTwo[_Made]], tuple[()]]:
        return LastTwo, ()

    def of(self, epoch: int, make: Callable[[int], _Made]) -> _Made:
        """That of an epoch; made if it isn't one of the last two that were asked for."""
        kept = self._kept
        for known, order in kept:
            if known == epoch:
                return order
        order = make(epoch)
        self._kept = (*kept[-1:], (epoch, order))
        return order


@dataclass(frozen=True)
class MixedOrder:
    """Samples of several data sets in turn, by their weights.

    Of every `_PERIOD` positions each data set has a fixed number, in random places; each is gone
    through in orders of its own, whole before it begins again, also from one epoch to the next.

    Attributes:
        counts: Samples of each data set; they are numbered one data set behind the other.
        weights: Of each, positive; they need not come to 1.
        seed: As of `Order`.
        epoch: As of `Order`.
        block: As of `Order`.
        shuffle: As of `Order`; the data sets take turns at random all the same.
        length: Positions of an epoch.
    """

    counts: tuple[int, ...]
    weights: tuple[float, ...]
    seed: int
    epoch: int
    block: int
    shuffle: bool
    length: int

    def rows(self, start: int, stop: int) -> Rows:
        """The samples at positions of the epoch; positions behind its end are the next one's."""
        shares = shares_of(self.weights)
        first = self.epoch * self.length + start
        periods = range(first // _PERIOD, -(-(first + stop - start) // _PERIOD))
        rows = np.empty(stop - start, np.int64)
        for period in periods:
            turns = self._turns(period, shares)
            begin = max(first - period * _PERIOD, 0)
            end = min(first + stop - start - period * _PERIOD, _PERIOD)
            at = period * _PERIOD + begin - first
            for part in range(len(shares)):
                mine = np.flatnonzero(turns == part)
                wanted = (mine >= begin) & (mine < end)
                if wanted.any():
                    taken = period * shares[part] + int(np.argmax(wanted))
                    found = self._of(part, taken, taken + int(np.count_nonzero(wanted)))
                    rows[at + mine[wanted] - begin] = found
        return rows

    def _turns(self, period: int, shares: tuple[int, ...]) -> Rows:
        places = _permutation(_PERIOD, "turns", self.seed, period)
        return np.repeat(np.arange(len(shares)), shares)[places]

    def _of(self, part: int, start: int, stop: int) -> Rows:
        """Samples of a data set that is gone through again and again."""
        count = self.counts[part]
        pieces = []
        while start < stop:
            again, at = divmod(start, count)
            size = min(stop - start, count - at)
            order = self._orders[part].of(again, partial(self._pass, part))
            pieces.append(order.rows(at, at + size))
            start += size
        return np.concatenate(pieces) + sum(self.counts[:part])

    @cached_property
    def _orders(self) -> tuple[LastTwo[Order], ...]:
        return tuple(LastTwo() for _ in self.counts)

    def _pass(self, part: int, again: int) -> Order:
        return Order(self.counts[part], self.seed, again, self.block, self.shuffle, part)


def shares_of(weights: tuple[float, ...]) -> tuple[int, ...]:
    """How many of every `_PERIOD` positions each weight comes to: by largest remainders.

    Raises:
        ValueError: A weight is not positive, or so small that it comes to none.
    """
    whole = np.asarray(weights, np.float64)
    if not (np.isfinite(whole).all() and (whole > 0).all()):
        raise ValueError(f"weights are {weights}; give positive numbers")
    exact = whole / whole.sum() * _PERIOD
    shares = np.floor(exact).astype(np.int64)
    missing = _PERIOD - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    if not shares.all():
        raise ValueError(f"weights are {weights}; the least is below 1 in {_PERIOD} of all")
    return tuple(shares.tolist())


def _permutation(count: int, *key: str | int) -> Rows:
    # All of a key counts, whatever the size and number of its parts.
    digest = blake2b(repr(key).encode(), digest_size=16).digest()
    words = np.random.Philox(key=np.frombuffer(digest, "<u8")).random_raw(count)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)
