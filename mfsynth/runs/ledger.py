"""What a run consists of, and which of its shards are still to be made.

The life of a shard::

    free ──assign──► in work ──made──► held ──certain──► committing ──► committed
      ▲                 │                │
      ├──── failed ─────┘                ├── beyond the prefix: dropped, its objects are garbage
      └──── lost: not in the store ──────┘

**What a run consists of.** Let `gain(k)` be what shard k adds to the target (its accepted
pairs; or all of its candidates, where the target counts candidates). The data set is the shortest
prefix of shards 0, 1, 2, … whose gains reach the target. Workers run ahead of the prefix, so a
shard that is made is *held* until it is certain to be in it: until the gains of all lower shards,
with unfinished ones counted at their most, still fall short of the target. The set of committed
shards therefore depends on the configuration alone, not on the number of workers, on the order in
which they finish, or on where the run was killed, and it has no gaps. Where candidates come to an
end, as those of a source do, all shards are the whole, whatever the target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from mfsynth.runs.policy import Goal
from mfsynth.shards.records import Receipt

# A second attempt may fall to a straggler too.
ATTEMPTS_AT_ONCE = 3


class ShardLedger:
    """The shards of a run, by number. Knows neither workers nor time.

    Args:
        goal: What ends the run.
        committed: Receipts that the store holds already.

    Attributes:
        candidates_since_last_pair: Committed in this session since a shard had a pair.
    """

    def __init__(self, goal: Goal, committed: Iterable[Receipt]) -> None:
        self._goal = goal
        # Every shard below the frontier is either committed, and then in `_gains`, or in
        # `_attempts`, which counts those under way; of the latter, the made ones are in `_held`
        # and the ones nobody is at in `_unassigned`.
        self._frontier = 0
        self._gains: dict[int, int] = {}
        self._attempts: dict[int, int] = {}
        self._held: dict[int, Receipt] = {}
        self._unassigned: set[int] = set()
        self._committing: set[int] = set()
        self._prefix = 0  # shards below this one are committed …
        self._prefix_gain = 0  # … and add this much
        self._top = 0  # no shard from here on is committed
        self._gained = 0
        self._held_gain = 0
        self._accepted = 0
        self._candidates = 0
        self.candidates_since_last_pair = 0
        for receipt in committed:
            self.note_commit(receipt)
        self.candidates_since_last_pair = 0  # a new session is a new chance

    # --- what shards are there ---

    @property
    def is_complete(self) -> bool:
        """Whether what is committed reaches the target, or is all there is, and has no gap."""
        is_all = self._goal.shards is not None and self._prefix >= self._goal.shards
        return is_all or (self._prefix_gain >= self._goal.target and self._prefix >= self._top)

    @property
    def in_work(self) -> int:
        """How many shards workers are at."""
        return len(self._attempts) - len(self._held) - len(self._unassigned)

    def is_unmade(self, shard: int) -> bool:
        """Whether it was begun and is neither held nor committed."""
        return shard in self._attempts and shard not in self._held

    def is_unassigned(self, shard: int) -> bool:
        """Whether it was begun, is not made, and nobody is at it."""
        return shard in self._unassigned

    def may_have_another_attempt(self, shard: int) -> bool:
        """Whether it is in work, and not by too many workers yet."""
        return self.is_unmade(shard) and self._attempts[shard] < ATTEMPTS_AT_ONCE

    def is_committing(self, shard: int) -> bool:
        """Whether its commit is under way."""
        return shard in self._committing

    # --- what happens to a shard ---

    def assign(self, shard: int) -> None:
        """One more worker is at it."""
        self._open_up_to(shard + 1)
        self._attempts[shard] += 1
        self._unassigned.discard(shard)

    def release(self, shard: int) -> None:
        """One of its workers no longer is."""
        if shard in self._attempts:
            self._attempts[shard] -= 1
            if not self._attempts[shard] and shard not in self._held:
                self._unassigned.add(shard)

    def hold(self, receipt: Receipt) -> None:
        """It is made; if another attempt or another driver was faster, this one is garbage."""
        if self.is_unmade(receipt.shard):
            self._unassigned.discard(receipt.shard)
            self._held[receipt.shard] = receipt
            self._held_gain += self._goal.gain(receipt)

    def begin_commit(self, shard: int) -> None:
        """Its commit is under way."""
        self._committing.add(shard)

    def commit_failed(self, shard: int) -> bool:
        """Its commit is to be tried again; False if it has one meanwhile."""
        self._committing.discard(shard)
        return shard in self._attempts

    def lose(self, shard: int) -> bool:
        """What was made of it is not in the store; False if it is committed meanwhile."""
        self._committing.discard(shard)
        if (held := self._held.pop(shard, None)) is None:
            return False
        self._held_gain -= self._goal.gain(held)
        if not self._attempts[shard]:
            self._unassigned.add(shard)
        return True

    def note_commit(self, receipt: Receipt) -> None:
        """It is part of the data set, whoever made it; a second time changes nothing."""
        shard = receipt.shard
        if shard in self._gains:
            return
        self._open_up_to(shard + 1)
        del self._attempts[shard]
        self._unassigned.discard(shard)
        self._committing.discard(shard)
        if (held := self._held.pop(shard, None)) is not None:
            self._held_gain -= self._goal.gain(held)
        self._gains[shard] = self._goal.gain(receipt)
        self._gained += self._goal.gain(receipt)
        self._top = max(self._top, shard + 1)
        self._accepted += receipt.accepted
        self._candidates += receipt.candidates
        self.candidates_since_last_pair = (
            0 if receipt.accepted else self.candidates_since_last_pair + receipt.candidates
        )
        while self._prefix in self._gains:
            self._prefix_gain += self._gains[self._prefix]
            self._prefix += 1

    def _open_up_to(self, frontier: int) -> None:
        for shard in range(self._frontier, frontier):
            self._attempts[shard] = 0
            self._unassigned.add(shard)
        self._frontier = max(self._frontier, frontier)

    # --- what is certain, and what is needed ---

    def certain(self) -> list[Receipt]:
        """Held shards that belong to the data set whatever the rest gains, lowest first."""
        end = self._boundary(1.0)
        return [self._held[shard] for shard in sorted(self._held) if shard < end]

    def wanted(self, at_most: int, may_try: Callable[[int], bool]) -> Iterator[int]:
        """Shards to be made now, lowest first: as many as the target is expected to need.

        Unfinished shards count at the acceptance seen so far, so that workers neither wait for
        the last shard's result nor make many shards that the prefix will not need.

        Args:
            at_most: How many.
            may_try: Whether a shard that was begun may be tried again now.
        """
        rate = 1.0
        if self._goal.counts_pairs:
            rate = (self._accepted + 1) / (self._candidates + 2)
        expected = self._expected(rate)
        needed = self._boundary(rate) if self._unassigned else 0
        again = [shard for shard in sorted(self._unassigned) if shard < needed and may_try(shard)]
        yield from again[:at_most]
        end = self._frontier + at_most - len(again)
        for shard in range(self._frontier, min(end, self._goal.shards or end)):
            if expected >= self._goal.target:
                return
            yield shard
            expected += rate * self._goal.shard_size

    def _expected(self, rate: float) -> float:
        """Gain of all shards below the frontier, unfinished candidates accepted at `rate`."""
        unfinished = len(self._attempts) - len(self._held)
        return self._gained + self._held_gain + rate * self._goal.shard_size * unfinished

    def _boundary(self, rate: float) -> int:
        """End of the shortest prefix expected to reach the target, at most the frontier.

        With a rate of 1, what is below it belongs to the data set whatever the rest gains. A gap
        below a commit is filled whatever the target: finished runs have no gaps.
        """
        target = self._goal.target
        if self._expected(rate) < target:
            return self._frontier
        total = float(self._prefix_gain)
        for shard in range(self._prefix, self._frontier):
            if total >= target:
                return max(shard, self._top)
            if shard in self._gains:
                total += self._gains[shard]
            elif shard in self._held:
                total += self._goal.gain(self._held[shard])
            else:
                total += rate * self._goal.shard_size
        return self._frontier
