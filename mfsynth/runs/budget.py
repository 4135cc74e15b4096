"""What a run will take, from what shards took that were made already. No speed is assumed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mfsynth.config import RunConfig, differences
from mfsynth.errors import MfsynthError
from mfsynth.formatting import by_shards, size
from mfsynth.runs.items import RunSource
from mfsynth.runs.jobs import job_of
from mfsynth.runs.plan import recorded_config
from mfsynth.runs.policy import Goal
from mfsynth.shards.drivers import read_counted_commits, read_known_commits
from mfsynth.shards.layout import RUN_KEY
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import RunManifest, read_run
from mfsynth.shards.totals import by_count, totals
from mfsynth.storage.store import ObjectStore

# What decides speed, acceptance and bytes of a candidate.
_WORK = (
    *("prompts", "source", "model", "sampler", "camera", "estimator", "metres_per_unit"),
    *("sensor", "completion", "checks"),
)
# What must be the same for a run to go on, as far as can be told without prompts and model: a file
# of prompts may have moved.
_RUN = (
    *("name", "seed", "shard_size", "model", "sampler", "camera", "estimator", "metres_per_unit"),
    *("sensor", "copies", "completion", "checks", "keep_rejects"),
)


@dataclass(frozen=True, slots=True)
class Amount:
    """A number that was measured, or follows from one.

    Attributes:
        value: Of any unit.
        error: Its standard error over shards; None where a single shard was measured.
    """

    value: float
    error: float | None = None

    @classmethod
    def ratio(cls, tops: Sequence[float], bottoms: Sequence[float]) -> Amount:
        """Quotient of two sums over shards, with the usual error of a ratio of means."""
        value = sum(tops) / sum(bottoms)
        if (count := len(tops)) < 2:
            return cls(value)
        left = math.fsum((t - value * b) ** 2 for t, b in zip(tops, bottoms, strict=True))
        return cls(value, math.sqrt(left * count / (count - 1)) / sum(bottoms))

    def times(self, factor: float) -> Amount:
        """The amount of so many; `factor` is taken to be exact."""
        return Amount(self.value * factor, None if self.error is None else self.error * factor)

    def text(self, decimals: int = 1) -> str:
        """`12.4 ± 0.4`: the value and its standard error."""
        shown = f"{self.value:.{decimals}f}"
        return shown if self.error is None else f"{shown} ± {self.error:.{decimals}f}"

    def size_text(self) -> str:
        """The same of bytes."""
        return (
            size(self.value) if self.error is None else f"{size(self.value)} ± {size(self.error)}"
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """What committed shards took.

    Attributes:
        url: Of their run, without credentials.
        unit: `pairs` or `candidates`, what the other fields are per.
        shards: How many were measured.
        gained: Units in them.
        acceptance: Pairs a candidate.
        candidates: Candidates a unit.
        seconds: Worker seconds a unit.
        size: Bytes a unit, those of rejected candidates included.
        devices: What made them: shards by device, as `NVIDIA H100 (cuda)`.
        kinds: Of these devices: `cpu`, `cuda`, or "" where a receipt doesn't say.
    """

    url: str
    unit: str
    shards: int
    gained: int
    acceptance: Amount
    candidates: Amount
    seconds: Amount
    size: Amount
    devices: Mapping[str, int] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()

    @classmethod
    def of(cls, url: str, receipts: Sequence[Receipt], unit: str) -> Measurement:
        """Sums and ratios over receipts.

        Raises:
            MfsynthError: They hold no unit.
        """
        candidates = [receipt.candidates for receipt in receipts]
        pairs = [receipt.accepted for receipt in receipts]
        units = pairs if unit == "pairs" else candidates
        if not sum(units):
            raise MfsynthError(
                f"{url}: none of {sum(candidates)} candidates was accepted, so nothing can be "
                "planned from it; see the reasons with `mfsynth status`"
            )
        return cls(
            url=url,
            unit=unit,
            shards=len(receipts),
            gained=sum(units),
            acceptance=Amount.ratio(pairs, candidates),
            candidates=Amount.ratio(candidates, units),
            seconds=Amount.ratio([receipt.total_seconds for receipt in receipts], units),
            size=Amount.ratio([_size(receipt) for receipt in receipts], units),
            devices=dict(by_count(Counter(map(_device, receipts)))),
            kinds=tuple(sorted({receipt.device for receipt in receipts})),
        )

    def require_gpus(self, why: str) -> None:
        """Refuse to take the speed of processors for that of GPUs.

        Args:
            why: What GPUs are asked for by.

        Raises:
            MfsynthError: Some shards were made without a GPU.
        """
        if "cpu" in self.kinds:
            raise MfsynthError(
                f"{self.url} was measured on {by_shards(self.devices, 3)}, which says nothing of a "
                f"GPU's speed; leave {why} out, or name a run made on such GPUs with --from URL"
            )

    @property
    def hours_of(self) -> str:
        """Whose hours `seconds` are, in words."""
        match self.kinds:
            case ("cuda",):
                return "GPU hours"
            case ("cpu",):
                return "of a worker without a GPU: a GPU's differ"
        return "GPU hours, where workers have GPUs"


@dataclass(frozen=True, slots=True)
class Budget:
    """What is yet to be made of a run, and what it takes.

    Attributes:
        measured: What it follows from.
        target: Units that end the run.
        there: Units that are committed already.
        shards: Still to be made.
        candidates: In them.
        worker_hours: For them; a worker has one GPU, or its share of a machine without one.
        wall_hours: With so many workers; None if their number is not known.
        workers: Their number, or None.
        size: Bytes.
        cost: In the currency of the price; None without one.
        short: Units of the target that the source will have ended before.
        differences: Settings in which the measured run was another one.
    """

    measured: Measurement
    target: int
    there: int
    shards: int
    candidates: int
    worker_hours: Amount
    wall_hours: Amount | None
    workers: int | None
    size: Amount
    cost: Amount | None
    short: int = 0
    differences: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        measured, unit = self.measured, self.measured.unit
        one = unit.removesuffix("s")
        over = f"{measured.shards} shard{'s' if measured.shards > 1 else ''}"
        lines = [
            f"target       {self.target} {unit}, {self.there} there",
            f"measured     {measured.gained} {unit} in {over}, {measured.url}",
            f"  made on    {by_shards(measured.devices, 3)}",
            f"  accepted   {measured.acceptance.times(100).text()} %",
            f"  worker     {measured.seconds.text(2)} s a {one}",
            f"  storage    {measured.size.size_text()} a {one}",
            f"to make      {self.shards} shards, {self.candidates} candidates",
            *([self._ends_first] if self.short else []),
            f"worker time  {self.worker_hours.text(_decimals(self.worker_hours))} h "
            f"({measured.hours_of})",
        ]
        if self.wall_hours is not None:
            wall = self.wall_hours.text(_decimals(self.wall_hours))
            lines.append(f"wall time    {wall} h on {self.workers} workers")
        lines.append(f"storage      {self.size.size_text()}")
        if self.cost is not None:
            lines.append(f"cost         {self.cost.text(2)}")
        if measured.shards > 1:
            lines.append(f"±            standard error over {over}")
        if self.differences:
            lines.append("beware       the measured run had other settings (there -> here):")
            lines += [f"  {line}" for line in self.differences]
        return lines

    @property
    def _ends_first(self) -> str:
        expected, unit = self.target - self.short, self.measured.unit
        return f"beware       the source ends before: about {expected} {unit} of {self.target}"


def budget(
    measured: Measurement,
    *,
    target: int,
    shard_size: int,
    there: int = 0,
    left: int | None = None,
    workers: int | None = None,
    price: float | None = None,
) -> Budget:
    """What reaching a target takes, in whole shards, as far as a source has items.

    Starting workers and loading models comes on top.

    Args:
        measured: Speed, acceptance and bytes.
        target: Units of the measurement.
        shard_size: Candidates in a shard.
        there: Units that are there already.
        left: Candidates that can still be made; None where there is no end.
        workers: How many there will be.
        price: Of a worker for an hour.
    """
    missing = max(0, target - there)
    # Whole shards make some more units than are missing.
    candidates = math.ceil(missing * measured.candidates.value / shard_size) * shard_size
    if left is not None:
        candidates = min(candidates, left)
    shards = math.ceil(candidates / shard_size)
    units = candidates / measured.candidates.value
    hours = measured.seconds.times(units / 3600)
    # A worker makes whole shards, so the last wave takes as long as any.
    waves = math.ceil(shards / workers) / shards if workers and shards else 0.0
    return Budget(
        measured=measured,
        target=target,
        there=there,
        shards=shards,
        candidates=candidates,
        worker_hours=hours,
        wall_hours=hours.times(waves) if workers else None,
        workers=workers,
        size=measured.size.times(units),
        cost=None if price is None else hours.times(price),
        short=max(0, missing - round(units)),
    )


def plan_budget(
    config: RunConfig,
    *,
    measured_at: str | None,
    workers: int | None,
    price: float | None,
    gpus: str | None = None,
) -> Budget:
    """The budget of what is missing of a run, from its own shards or those of another run.

    Args:
        config: The run.
        measured_at: URL of a run to take speed, acceptance and bytes from; None for its own.
        workers: How many there will be; None for those of the configuration, if it has a number.
        price: Of a worker for an hour.
        gpus: What says that workers will have GPUs; None if nothing does.

    Raises:
        MfsynthError: There is nothing to measure, it was measured without the GPUs that there
            will be, or the output holds another run.
    """
    source = RunSource.open(config)
    goal = Goal.of(config, None if source is None else source.candidates)
    own = ObjectStore.open(config.output)
    there = _receipts_of_this_run(own, config)
    measured_store, receipts = own, there
    changed: tuple[str, ...] = ()
    if measured_at is not None:
        measured_store = ObjectStore.open(measured_at)
        changed = tuple(differences(*_settings(_WORK, read_run(measured_store), config)))
        receipts = [*read_counted_commits(measured_store).values()]
    if not receipts:
        raise MfsynthError(
            f"{measured_store.url} has no committed shard to measure; make some first, for example "
            f"`mfsynth {job_of(config)} CONFIG --pairs 64`, or name another run with --from URL"
        )
    if workers is None and isinstance(config.runtime.workers, int):
        workers = config.runtime.workers
    measured = Measurement.of(measured_store.url, receipts, goal.unit)
    if gpus is not None:
        measured.require_gpus(gpus)
    found = budget(
        measured,
        target=goal.target,
        shard_size=goal.shard_size,
        there=goal.gained(totals(there)),
        left=goal.left(totals(there)),
        workers=workers,
        price=price,
    )
    return replace(found, differences=changed)


def _receipts_of_this_run(store: ObjectStore, config: RunConfig) -> list[Receipt]:
    if not store.exists(RUN_KEY):
        return []
    if changed := differences(*_settings(_RUN, read_run(store), config)):
        raise MfsynthError(
            f"{store.url} holds a run with other settings ({'; '.join(changed)}); give another "
            f"output with --out, and `--from {store.url}` to plan from its speed all the same"
        )
    return [*read_known_commits(store).values()]


def _settings(
    names: Sequence[str], manifest: RunManifest, config: RunConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of a run as it was first started, and as it is configured now."""
    now = _by_meaning(recorded_config(config))
    there = _by_meaning(manifest.config)
    before = {name: there.get(name) for name in names}
    # None stands for the newest one, which may be the one that is named now.
    models = [values for values in (before["model"], now["model"]) if values]
    if any(values.get("revision") is None for values in models):
        for values in models:
            values["revision"] = None
    return before, {name: now.get(name) for name in names}


def _by_meaning(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose settings of equal meaning are equal, as in fingerprints."""
    kept = config.get("keep_rejects")
    earlier = "none" if config.get("keep_reject_thumbnails") is False else "thumbnails"
    copies = config.get("copies")
    return {**config, "keep_rejects": kept or earlier, "copies": 1 if copies is None else copies}


def _device(receipt: Receipt) -> str:
    if not receipt.device:
        return "a device that is not recorded"
    name = receipt.device_name
    return f"{name} ({receipt.device})" if name else receipt.device


def _size(receipt: Receipt) -> int:
    return sum(stored.size for stored in receipt.objects.values())


def _decimals(hours: Amount) -> int:
    """So that a run of minutes does not take 0.0 hours."""
    return 1 if hours.value >= 10 else 3
