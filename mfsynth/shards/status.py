"""How far a run is, from its storage alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mfsynth.errors import MfsynthError
from mfsynth.formatting import by_shards, counts, duration, size
from mfsynth.shards.commits import gaps, listed
from mfsynth.shards.drivers import (
    counted_shards,
    driver_at_work,
    host_of,
    read_known_commits,
)
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import RunManifest, read_run
from mfsynth.shards.segments import listed_tolerantly, shards_beside
from mfsynth.shards.totals import Totals, by_count, totals
from mfsynth.shards.views import View, read_views
from mfsynth.shards.words import camera_in_words, loosened_limits
from mfsynth.storage.store import ObjectStore

# Commits of the newest hour tell the present speed, whatever pauses the run had before. Receipts
# have their time in whole seconds, so that less than a minute of them tells little.
PACE_WINDOW = timedelta(hours=1)
PACE_SHORTEST = timedelta(minutes=1)
_HOSTS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a run was lately.

    Attributes:
        pairs_per_hour: Accepted pairs, of all workers together.
        hours: Over which this was seen, at most one, up to the newest shard.
    """

    pairs_per_hour: float
    hours: float


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """A view of a run.

    Attributes:
        pairs: In it.
        returned: How many of them the run rejected.
        shards: That it is of.
        shards_since: How many shards are committed that it is not of.
        rules: What decides, in words.
        problem: Why it can't be read; empty if it can.
    """

    pairs: int
    returned: int
    shards: int
    shards_since: int
    rules: str
    problem: str = ""

    @classmethod
    def of(cls, view: View, receipts: Mapping[int, Receipt]) -> ViewStatus:
        """As the receipts of the run have it, which were read after the view."""
        since, problem = view.shards_since(receipts), ""
        try:
            view.receipts_of(receipts)
        except MfsynthError as error:
            problem = str(error)
        return cls(view.pairs, view.returned, view.shards, since, view.rules.text(), problem)

    @property
    def line(self) -> str:
        """For people."""
        if self.problem:
            return self.problem
        back = f", {self.returned} of them rejected by the run" if self.returned else ""
        line = f"{self.pairs} pairs of {self.shards} shards{back} ({self.rules})"
        if self.shards_since:
            line += f"; {self.shards_since} shards since: `mfsynth refilter --replace`"
        return line


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Sums over the committed shards of all sessions of a run.

    Attributes:
        run: Name of the run.
        url: Where it is, without credentials.
        created: When it was first started, ISO 8601, UTC.
        last_shard: When the newest shard was made, ISO 8601, UTC; None before the first commit.
        target_pairs: Pairs that its first start wanted, if it was pairs; a later one may differ.
        shards: Committed shards.
        missing_shards: Shards below the last committed one that are not committed.
        candidates: Candidates in the committed shards.
        candidates_in_all: How many its source has; None for a run without end.
        pairs: Accepted pairs.
        rejected: Candidates that the checks filtered out.
        quarantined: Candidates that could not be made.
        reasons: How many rejected candidates failed each check; one may fail several.
        acceptance: Pairs / candidates, in [0, 1]; None before the first commit.
        worker_seconds: Of all shards.
        seconds_per_pair: Worker seconds a pair; None without a pair.
        seconds_by_phase: Worker seconds; phases overlap.
        hosts: Shards by the machine that made them.
        size: Bytes of the committed objects.
        pace: How fast it was lately; None if that is not known.
        lost_shards: How many shards less there are than were counted once, or are in segments.
        devices: Shards by the device that made them, where that is known.
        prompts_unknown: Candidates whose prompt has words that the model doesn't know, of shards
            where that is known; None if it is of none.
        prompts_cut: The same of prompts that are longer than what the model reads.
        prompts: What that is in words; empty if all are well, or nothing is known.
        camera: That the run assumes, in words; empty if it has none.
        loosened: Limits that let more pass than the defaults of their checks, in words.
        retries: What failed and was done again, by cause, of committed shards, where that is
            known.
        driver: The machine of a driver that was heard of a short time ago, "" if that isn't known;
            None if there is no such driver.
        views: Its views, by name.
        view_faults: Why others can't be read, a line each.
    """

    run: str
    url: str
    created: str
    last_shard: str | None
    target_pairs: int | None
    shards: int
    missing_shards: tuple[int, ...]
    candidates: int
    pairs: int
    rejected: int
    quarantined: int
    reasons: Mapping[str, int]
    acceptance: float | None
    worker_seconds: float
    seconds_per_pair: float | None
    seconds_by_phase: Mapping[str, float]
    hosts: Mapping[str, int]
    size: int
    pace: Pace | None = None
    candidates_in_all: int | None = None
    lost_shards: int = 0
    devices: Mapping[str, int] = field(default_factory=dict)
    prompts_unknown: int | None = None
    prompts_cut: int | None = None
    prompts: str = ""
    camera: str = ""
    loosened: Sequence[str] = ()
    retries: Mapping[str, int] = field(default_factory=dict)
    driver: str | None = None
    views: Mapping[str, ViewStatus] = field(default_factory=dict)
    view_faults: Sequence[str] = ()

    @classmethod
    def of(cls, manifest: RunManifest, url: str, sums: Totals, missing: Iterable[int]) -> RunStatus:
        """The status of a run whose receipts were summed already; its pace is not known.

        Args:
            manifest: What the run is.
            url: Where it is, without credentials.
            sums: Over all its commits.
            missing: Shards below the last committed one that are not committed.
        """
        return cls(
            run=manifest.run,
            url=url,
            created=manifest.created,
            last_shard=sums.last or None,
            target_pairs=(manifest.config.get("target") or {}).get("pairs"),
            shards=sums.shards,
            missing_shards=tuple(missing),
            candidates=sums.candidates,
            candidates_in_all=manifest.candidates_in_all,
            pairs=sums.accepted,
            rejected=sums.rejected,
            quarantined=sums.quarantined,
            reasons=dict(by_count(sums.reasons)),
            acceptance=sums.acceptance,
            worker_seconds=sums.seconds,
            seconds_per_pair=sums.seconds / sums.accepted if sums.accepted else None,
            seconds_by_phase=dict(sorted(sums.phases.items(), key=lambda item: -item[1])),
            hosts=dict(by_count(sums.hosts)),
            size=sums.size,
            devices=dict(by_count(sums.devices)),
            prompts_unknown=sums.prompts_unknown if sums.prompts_read else None,
            prompts_cut=sums.prompts_cut if sums.prompts_read else None,
            prompts=sums.prompts_text,
            camera=camera_in_words(manifest.settings),
            loosened=loosened_limits(manifest.scores),
            retries=dict(by_count(sums.retries)),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        lines = [
            f"run          {self.run}, {self.url}, started {self.created}",
            f"pairs        {self.pairs}{self._wanted}; {self.candidates} candidates"
            + (f", {self.acceptance:.1%} accepted" if self.acceptance is not None else ""),
            f"rejected     {self.rejected}" + (f": {counts(self.reasons)}" if self.reasons else ""),
            f"quarantined  {self.quarantined}",
            f"shards       {self.shards} committed, {size(self.size)}",
        ]
        if self.camera:
            lines.append(f"camera       {self.camera}, assumed")
        if self.prompts:
            lines.append(f"prompts      {self.prompts}")
        if self.loosened:
            lines.append(f"loosened     {'; '.join(self.loosened)}")
        if self.hosts:
            lines.append(f"by machine   {by_shards(self.hosts, _HOSTS_SHOWN)}")
        if self.devices:
            lines.append(f"by device    {by_shards(self.devices, _HOSTS_SHOWN)}")
        if self.worker_seconds:
            pair = f", {self.seconds_per_pair:.2f} s a pair" if self.seconds_per_pair else ""
            lines.append(f"worker time  {duration(self.worker_seconds)}{pair}")
        if self.seconds_by_phase:
            lines.append(f"by phase     {_shares(self.seconds_by_phase, self.worker_seconds)}")
        if self.retries:
            named = {cause.replace("_", " "): number for cause, number in self.retries.items()}
            lines.append(f"done again   {counts(named)}")
        lines += [f"view         {name}: {view.line}" for name, view in self.views.items()]
        lines += [f"view         {fault}" for fault in self.view_faults]
        if self.missing_shards:
            lines.append(
                f"gaps         {listed(self.missing_shards)}: start the run again to fill them"
            )
        if self.lost_shards:
            lines.append(
                f"lost         {self.lost_shards} of {self.shards + self.lost_shards} shards that "
                "were committed once: `mfsynth verify` says more"
            )
        return lines

    @property
    def _short(self) -> int:
        """How many pairs are missing of those that its first start wanted."""
        return max(0, (self.target_pairs or 0) - self.pairs)

    @property
    def _wanted(self) -> str:
        if not self._short:
            return ""
        end = ", and its source has no more items" if self._left == 0 else ""
        return f" of {self.target_pairs} wanted{end}"

    @property
    def _left(self) -> int | None:
        """Candidates of its source that no shard has; None for a run without end."""
        if self.candidates_in_all is None:
            return None
        return max(0, self.candidates_in_all - self.candidates)

    @property
    def _to_come(self) -> float:
        """How many of the missing pairs there can be yet, were all accepted as before."""
        if self._left is None:
            return self._short
        return min(self._short, self._left * (self.acceptance or 0.0))

    def live_lines(self, now: datetime) -> list[str]:
        """For people who see the run from elsewhere: is it alive, how fast, for how long yet.

        Args:
            now: With a time zone.
        """
        if self.driver is not None:
            at_work = f"a driver is at work{f', on {self.driver}' if self.driver else ''}"
        else:
            at_work = "no driver is at work"
            if self._short and self._left != 0:
                at_work += f", and {self._short} pairs are missing: the same command goes on"
        lines = [f"state        {at_work}"]
        if self.last_shard is not None:
            age = max(0.0, (now - datetime.fromisoformat(self.last_shard)).total_seconds())
            lines.append(f"last shard   {duration(age)} ago, {self.last_shard}")
        if self.pace is not None:
            line = f"pace         {self.pace.pairs_per_hour:.0f} pairs/h, seen over "
            line += duration(3600 * self.pace.hours)
            if self._to_come and self.pace.pairs_per_hour:
                left = duration(3600 * self._to_come / self.pace.pairs_per_hour)
                ends_before = self._to_come < self._short
                goal = f"the {self.target_pairs} pairs of the first start"
                line += f"; {left} to {'the end of its source' if ends_before else goal}"
            lines.append(line)
        return lines


def run_status(store: ObjectStore) -> RunStatus:
    """The status of the run in `store`.

    Raises:
        MfsynthError: There is no run, a commit can't be read, or all of them are lost.
    """
    manifest = read_run(store)
    counted, segments = counted_shards(store), listed_tolerantly(store, [])
    views, view_faults = read_views(store)
    commits = read_known_commits(store)
    status = RunStatus.of(manifest, store.url, totals(commits.values()), gaps(commits))
    lost = max(0, counted.shards - len(commits)) if counted is not None else 0
    lost = max(lost, len(shards_beside(store, segments, commits)))
    driver = driver_at_work(store, datetime.now(UTC))
    return replace(
        status,
        driver=None if driver is None else host_of(store, driver),
        pace=pace_of(commits.values()),
        lost_shards=lost,
        views={view.name: ViewStatus.of(view, commits) for view in views},
        view_faults=tuple(view_faults),
    )


def pace_of(receipts: Iterable[Receipt]) -> Pace | None:
    """How fast the newest hour of shards was made; None if they tell nothing.

    The oldest shard in it only says when the others began.
    """
    made = sorted((datetime.fromisoformat(r.created), r.accepted) for r in receipts)
    recent = [(at, pairs) for at, pairs in made if at >= made[-1][0] - PACE_WINDOW]
    if not recent or recent[-1][0] - recent[0][0] < PACE_SHORTEST:
        return None
    hours = (recent[-1][0] - recent[0][0]).total_seconds() / 3600
    return Pace(sum(pairs for _, pairs in recent[1:]) / hours, hours)


def _shares(seconds: Mapping[str, float], whole: float) -> str:
    """`generate 90%, check 4%`, phases below half a percent left out."""
    shares = {phase: spent / whole for phase, spent in seconds.items() if spent >= 0.005 * whole}
    return ", ".join(f"{phase.replace('_', ' ')} {share:.0%}" for phase, share in shares.items())
