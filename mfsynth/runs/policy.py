"""What ends a run, and how patient it is on the way there."""

from __future__ import annotations

from dataclasses import dataclass, field

from mfsynth.config import RunConfig
from mfsynth.shards.records import Receipt
from mfsynth.shards.totals import Totals


@dataclass(frozen=True, slots=True)
class Goal:
    """What ends a run.

    Attributes:
        target: What the gains of the committed shards must reach.
        counts_pairs: A shard's gain is its accepted pairs; otherwise all of its candidates.
        shard_size: Candidates in a shard, the most that a shard can gain.
        end: How many candidates there are, of which the last shard may have fewer; None where there
            is no end.
    """

    target: int
    counts_pairs: bool
    shard_size: int
    end: int | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, config: RunConfig, end: int | None = None) -> Goal:
        """The goal of a configuration.

        Args:
            config: The configuration.
            end: How many candidates there are, of a run with a source.
        """
        pairs, candidates = config.target.pairs, config.target.candidates
        if end is not None:
            # All of them, if there are fewer than are wanted.
            candidates = min(candidates or end, end)
        wanted = pairs if pairs is not None else candidates
        return cls(wanted or 0, pairs is not None, config.shard_size, end=end)

    @property
    def shards(self) -> int | None:
        """How many there can be; None where there is no end."""
        return None if self.end is None else -(-self.end // self.shard_size)

    @property
    def unit(self) -> str:
        """What the target counts: `pairs` or `candidates`."""
        return "pairs" if self.counts_pairs else "candidates"

    def gain(self, receipt: Receipt) -> int:
        """What the shard adds to the target."""
        return receipt.accepted if self.counts_pairs else receipt.candidates

    def gained(self, totals: Totals) -> int:
        """What all committed shards together add to the target."""
        return totals.accepted if self.counts_pairs else totals.candidates

    def left(self, totals: Totals) -> int | None:
        """Candidates that committed shards don't have; None where there is no end."""
        return None if self.end is None else self.end - totals.candidates


@dataclass(frozen=True, slots=True)
class Policy(Goal):
    """What a supervisor aims at, with what, and how patient it is.

    Attributes:
        workers: Places for workers, to begin with.
        batch_size: Candidates made together, until memory runs out.
        deadline_s: Seconds that a worker may be silent while it starts or between two batches.
        max_attempts: Ends of a shard before it is made candidate by candidate; refusals of the
            store before the run stops.
        patience_s: Seconds that a run waits for a store, for workers that can't start because of
            it, and for nodes.
    """

    workers: int
    batch_size: int
    deadline_s: float
    max_attempts: int
    patience_s: float
