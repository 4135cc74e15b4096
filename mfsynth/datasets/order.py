"""The order in which a loader hands out samples: a function of seed and epoch alone.

Blocks of neighbours come in random order, and the samples of a block, too: neighbours lie side by
side in their tar and are read at once. Nothing of it depends on how many processes share the work.
Only raw words of Philox are drawn, and sorted stably, so that an order is the same with every
version of NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """A permutation of range(count), made piece by piece.

    Attributes:
        count: How many samples there are.
        seed: Any integer from 0.
        epoch: Another epoch, another permutation.
        block: Samples that stay together; 1 for none.
        shuffle: False for the samples as they are.
    """

    count: int
    seed: int = 0
    epoch: int = 0
    block: int = 16
    shuffle: bool = True

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
        return _permutation(-(-self.count // self.block), (self.seed, self.epoch))

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
        return first + _permutation(size, (self.seed, self.epoch, number))


def _permutation(count: int, key: tuple[int, ...]) -> Rows:
    words = np.random.Philox(np.random.SeedSequence(key)).random_raw(count)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)
