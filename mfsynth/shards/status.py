"""How far a run is, from its storage alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mfsynth.shards.commits import gaps, read_commits, read_run, totals
from mfsynth.shards.store import RunStore


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Sums over the committed shards of all starts of a run.

    Attributes:
        run: Name of the run.
        url: Where it is, without credentials.
        created: When it was first started, ISO 8601, UTC.
        shards: Committed shards.
        missing_shards: Shards below the last committed one that are not committed.
        candidates: Candidates in the committed shards.
        pairs: Accepted pairs.
        rejected: Candidates that the checks filtered out.
        quarantined: Candidates that could not be made.
        reasons: How many rejected candidates failed each check; one may fail several.
        acceptance: pairs / candidates, in [0, 1]; None before the first commit.
        seconds_per_pair: Worker seconds a pair; None without a pair.
        size: Bytes of the committed objects.
    """

    run: str
    url: str
    created: str
    shards: int
    missing_shards: tuple[int, ...]
    candidates: int
    pairs: int
    rejected: int
    quarantined: int
    reasons: Mapping[str, int]
    acceptance: float | None
    seconds_per_pair: float | None
    size: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        lines = [
            f"run          {self.run}  ({self.url}, started {self.created})",
            f"shards       {self.shards} committed, {self.size / 1e6:.1f} MB",
            f"pairs        {self.pairs} of {self.candidates} candidates",
        ]
        if self.acceptance is not None:
            lines.append(f"acceptance   {self.acceptance:.1%}")
        if self.seconds_per_pair is not None:
            lines.append(f"cost         {self.seconds_per_pair:.2f} worker seconds a pair")
        lines.append(f"rejected     {self.rejected}")
        lines += [f"  {count:>9}  {reason}" for reason, count in self.reasons.items()]
        lines.append(f"quarantined  {self.quarantined}")
        if self.missing_shards:
            lines.append(
                f"gaps         {listed(self.missing_shards)}: start the run again to fill them"
            )
        return lines


def run_status(store: RunStore) -> RunStatus:
    """The status of the run in `store`.

    Raises:
        MfsynthError: There is no run, or a commit can't be read.
    """
    manifest = read_run(store)
    commits = read_commits(store)
    sums = totals(commits)
    return RunStatus(
        run=manifest.run,
        url=store.url,
        created=manifest.created,
        shards=sums.shards,
        missing_shards=tuple(gaps(commits)),
        candidates=sums.candidates,
        pairs=sums.accepted,
        rejected=sums.rejected,
        quarantined=sums.quarantined,
        reasons=sums.reasons,
        acceptance=sums.accepted / sums.candidates if sums.candidates else None,
        seconds_per_pair=sums.seconds / sums.accepted if sums.accepted else None,
        size=sums.size,
    )


def listed(shards: tuple[int, ...] | list[int], limit: int = 8) -> str:
    """`shards 3, 5 and 9 more`: short for any number of them."""
    shown = ", ".join(str(shard) for shard in shards[:limit])
    more = f" and {len(shards) - limit} more" if len(shards) > limit else ""
    return f"shard{'s' if len(shards) > 1 else ''} {shown}{more}"
