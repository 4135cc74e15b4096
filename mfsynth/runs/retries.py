"""What failed so far, how long is waited before it is tried again, and when it is given up.

An attempt that dies, fails or goes silent is tried again by a fresh worker. After
`Policy.max_attempts` such ends the shard is made candidate by candidate; a candidate that ends
`MAX_CANDIDATE_FAILURES` attempts of that kind is quarantined with its reason, and only that one.
A store or a disk that is full or out of reach is given `Policy.patience_s`, with jitter; one that
refuses is not. A worker that goes down with its node is nobody's fault, up to `MAX_NODE_LOSSES`
nodes a shard.

Each kind of failure has a limit, after which the run stops and says why.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from mfsynth.formatting import duration
from mfsynth.runs.events import Wait, WaitCause
from mfsynth.runs.timers import Timers

# One death may be the machine's fault; a candidate that ends two attempts while it is alone in
# its worker is taken at its word.
MAX_CANDIDATE_FAILURES = 2
# Single prompts can be bad. When so many of one shard are, the model or the machine is, and to
# quarantine on would empty the data set.
MAX_QUARANTINED_PER_SHARD = 4
MAX_BACKOFF_S = 60.0
# Of a store: a single one may have hung for as long as patience lasts.
_LEAST_FAILURES = 3
# Whoever asks a run to stop has a patience of their own.
DRAIN_PATIENCE_S = 60.0
# Spot nodes come and go: at a chance of 15 % to lose one during a shard, ten in a row are one
# shard in 10^8. Beyond that the shard is taken to be what kills them.
MAX_NODE_LOSSES = 10


@dataclass(slots=True)
class _Troubles:
    """What went wrong with a shard so far."""

    failures: int = 0
    node_losses: int = 0
    store_failures: int = 0
    commit_failures: int = 0
    losses: int = 0
    candidate_failures: Counter[int] = field(default_factory=Counter)
    quarantined: dict[int, str] = field(default_factory=dict)
    not_before: float = 0.0


class Retries:
    """Failures of shards and of starts of workers, with the waits that follow from them.

    What books a failure returns why the run must stop, or None where it may go on.

    Args:
        max_attempts: `Policy.max_attempts`.
        patience_s: `Policy.patience_s`.
        rng: Jitter of the waits.

    Attributes:
        start_message: Why the last start failed that did.
        is_out_of_patience: Whether the run must stop because it has waited long enough.
    """

    def __init__(self, max_attempts: int, patience_s: float, rng: random.Random) -> None:
        self._max_attempts = max_attempts
        self._patience_s = patience_s
        self._rng = rng
        self._troubles: defaultdict[int, _Troubles] = defaultdict(_Troubles)
        self._start_failures = 0
        self._waiting_starts = 0
        self.start_message = ""
        self.is_out_of_patience = False
        self._start_not_before = 0.0
        # Ends of waits: of shards, and of starts with None.
        self._waits: Timers[int | None] = Timers()
        self._hurried_at = -math.inf
        # Since when, and why, by shard; of starts with None.
        self._open: dict[int | None, tuple[float, str]] = {}

    def wake_at(self, now: float) -> float | None:
        """When the next wait is over; None if nothing waits."""
        for _ in self._waits.due(now):
            pass  # what is already possible was done, or waits for an event and not for time
        return self._waits.earliest()

    # --- shards ---

    def may_try(self, shard: int, now: float) -> bool:
        """Whether the shard may be made, or committed, now."""
        return shard not in self._troubles or self._troubles[shard].not_before <= now

    def is_suspect(self, shard: int) -> bool:
        """Whether it failed so often that it is to be made candidate by candidate."""
        return shard in self._troubles and self._troubles[shard].failures >= self._max_attempts

    def quarantined(self, shard: int) -> dict[int, str]:
        """Candidates of the shard that are not to be made again, with their reasons."""
        return dict(self._troubles[shard].quarantined) if shard in self._troubles else {}

    def forget(self, shard: int) -> None:
        """It is committed, and its troubles are over."""
        self._troubles.pop(shard, None)
        self._open.pop(shard, None)

    def written(self, shard: int) -> None:
        """A worker could write it: the store is there."""
        self._open.pop(shard, None)

    def attempt_ended(
        self, shard: int, culprit: int | None, message: str, *, node_lost: bool = False
    ) -> str | None:
        """Book the end of a shard's only attempt against the shard, or a candidate.

        Args:
            shard: The shard.
            culprit: The candidate that was alone in the worker; None if several were.
            message: How it ended.
            node_lost: The worker went down with its node.
        """
        troubles = self._troubles[shard]
        if node_lost and troubles.node_losses < MAX_NODE_LOSSES:
            troubles.node_losses += 1
        elif culprit is not None:
            troubles.candidate_failures[culprit] += 1
            if troubles.candidate_failures[culprit] >= MAX_CANDIDATE_FAILURES:
                troubles.quarantined[culprit] = message
            if len(troubles.quarantined) >= MAX_QUARANTINED_PER_SHARD:
                return (
                    f"{MAX_QUARANTINED_PER_SHARD} candidates of shard {shard} failed one by one, "
                    f"the last one ({culprit}) with: {message}"
                )
        else:
            troubles.failures += 1
            if troubles.failures >= 2 * self._max_attempts:
                return f"shard {shard} fails with no candidate to blame: {message}"
        return None

    def store_failed(
        self, shard: int, message: str, now: float, *, may_pass: bool = True
    ) -> str | None:
        """A worker could not write the shard, which is made again after a while."""
        troubles = self._troubles[shard]
        troubles.store_failures += 1
        self._delay(shard, troubles.store_failures, now)
        return self._judge(shard, troubles.store_failures, message, now, may_pass=may_pass)

    def write_waits(self, shard: int, message: str, now: float) -> str | None:
        """A worker can't write the shard yet, and keeps it."""
        self._troubles[shard].store_failures += 1
        return self._judge(shard, self._troubles[shard].store_failures, message, now)

    def commit_failed(
        self, shard: int, message: str, now: float, *, may_pass: bool = True
    ) -> str | None:
        """The shard could not be committed; that is tried again after a while."""
        troubles = self._troubles[shard]
        troubles.commit_failures += 1
        self._delay(shard, troubles.commit_failures, now)
        return self._judge(shard, troubles.commit_failures, message, now, may_pass=may_pass)

    def lost(self, shard: int, message: str, now: float) -> str | None:
        """A worker wrote the shard where the driver doesn't see it: made again after a while."""
        troubles = self._troubles[shard]
        troubles.losses += 1
        self._delay(shard, troubles.losses, now)
        return message if troubles.losses >= self._max_attempts else None

    def _delay(self, shard: int, failures: int, now: float) -> None:
        until = now + backoff(failures, self._rng)
        self._troubles[shard].not_before = until
        self._waits.set(shard, until)

    def _judge(
        self, key: int | None, failures: int, message: str, now: float, *, may_pass: bool = True
    ) -> str | None:
        """Why the run must stop, after so many failures of something."""
        since, _ = self._open.get(key, (now, ""))
        self._open[key] = since, message
        if failures < min(self._max_attempts, _LEAST_FAILURES):
            return None
        if not may_pass:
            return message
        if now < self._end_of(since):
            return None
        self.is_out_of_patience = True
        return f"{message}{given_up(now - since)}"

    # --- patience ---

    def waits(self, now: float) -> Iterator[Wait]:
        """What is waited for, and since when: for the store longest, and for starts."""
        stored = [wait for key, wait in self._open.items() if key is not None]
        if stored:
            yield self._wait(WaitCause.STORE, *min(stored), now)
        if None in self._open:
            yield self._wait(WaitCause.WORKERS, *self._open[None], now)

    def hurry(self, now: float) -> None:
        """Somebody wants the run to stop: from now on there is little patience."""
        self._patience_s = min(self._patience_s, DRAIN_PATIENCE_S)
        self._hurried_at = now

    def _wait(self, cause: WaitCause, since: float, message: str, now: float) -> Wait:
        return Wait(cause, message, now - since, max(0.0, self._end_of(since) - now))

    def _end_of(self, since: float) -> float:
        return max(since, self._hurried_at) + self._patience_s

    # --- starts of workers ---

    def may_start(self, now: float) -> bool:
        """Whether no start has to be waited for."""
        return self._start_not_before <= now

    @property
    def starts_have_a_chance(self) -> bool:
        """Whether not too many starts failed in a row."""
        return self._start_failures < self._max_attempts

    def start_failed(self, message: str) -> None:
        """A worker did not become ready."""
        self._start_failures += 1
        self.start_message = message

    def start_waits(self, message: str, now: float) -> str | None:
        """A worker could not start, and another may be able to after a while."""
        self._waiting_starts += 1
        self._start_not_before = now + backoff(self._waiting_starts, self._rng)
        self._waits.set(None, self._start_not_before)
        return self._judge(None, self._waiting_starts, message, now)

    def delay_starts(self, now: float) -> None:
        """The next worker is started after a while."""
        self._start_not_before = now + backoff(self._start_failures, self._rng)
        self._waits.set(None, self._start_not_before)

    def forgive_starts(self) -> None:
        """A worker is ready, or there is a new place: a new chance."""
        self._start_failures = self._waiting_starts = 0
        self._open.pop(None, None)


def backoff(failures: int, rng: random.Random) -> float:
    """Seconds to wait after so many failures in a row, from 1."""
    return min(MAX_BACKOFF_S, 2.0 ** min(failures, 10)) * rng.uniform(0.5, 1.0)


def given_up(seconds: float) -> str:
    """What a run's last words go on with; nothing where nobody waited."""
    return f" (given up after {duration(seconds)}: runtime.patience)" if seconds >= 1 else ""
