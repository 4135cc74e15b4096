"""A run in numbers for Prometheus, through the metrics endpoint that every Ray node has.

Ray exports them as `ray_<name>`, counters as `ray_<name>_total`; `pipelines/grafana.json` shows
them. Counters are of one driver process and begin at 0 with it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mfsynth.runs.events import Wait, WaitCause, WorkerState
from mfsynth.runs.watching.notices import Committed, FailureNotice, Notice
from mfsynth.runs.watching.snapshot import Snapshot
from mfsynth.shards.records import Receipt
from mfsynth.shards.totals import phases_of


class Kind(StrEnum):
    """What Prometheus takes a metric for."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric; `label` is what it is told apart by, besides the run."""

    name: str
    kind: Kind
    description: str
    label: str | None = None

    @property
    def exported(self) -> str:
        """Its name in Prometheus."""
        return f"ray_{self.name}" + ("_total" if self.kind is Kind.COUNTER else "")


CANDIDATES = Metric("mfsynth_candidates", Kind.COUNTER, "Candidates in committed shards.")
PAIRS = Metric("mfsynth_pairs", Kind.COUNTER, "Accepted pairs in committed shards.")
REJECTS = Metric(
    "mfsynth_rejects", Kind.COUNTER, "Rejected candidates by failed check, maybe several.", "check"
)
QUARANTINED = Metric("mfsynth_quarantined", Kind.COUNTER, "Candidates that could not be made.")
SHARDS = Metric("mfsynth_shards", Kind.COUNTER, "Committed shards.")
PHASE_SECONDS = Metric(
    "mfsynth_phase_seconds", Kind.COUNTER, "Worker seconds of committed shards.", "phase"
)
FAILURES = Metric("mfsynth_failures", Kind.COUNTER, "What had to be done again.", "cause")
WORKERS = Metric("mfsynth_workers", Kind.GAUGE, "Workers by what they do.", "state")
WAITING = Metric(
    "mfsynth_waiting_seconds", Kind.GAUGE, "For how long the run has waited by now.", "cause"
)
GAINED = Metric("mfsynth_gained", Kind.GAUGE, "Towards the target, all sessions.", "unit")
TARGET = Metric("mfsynth_target", Kind.GAUGE, "What ends the run.", "unit")
GPU_MEMORY = Metric(
    "mfsynth_gpu_memory_peak_bytes", Kind.GAUGE, "Most GPU memory a worker has allocated so far."
)
METRICS = (
    CANDIDATES,
    PAIRS,
    REJECTS,
    QUARANTINED,
    SHARDS,
    PHASE_SECONDS,
    FAILURES,
    WORKERS,
    WAITING,
    GAINED,
    TARGET,
    GPU_MEMORY,
)


class _Exporter:
    """Ray's side of metrics of one run; Ray must be running."""

    def __init__(self, run: str, metrics: tuple[Metric, ...]) -> None:
        from ray.util import metrics as ray_metrics

        kinds = {Kind.COUNTER: ray_metrics.Counter, Kind.GAUGE: ray_metrics.Gauge}
        self._metrics: Mapping[str, Any] = {
            metric.name: kinds[metric.kind](
                metric.name,
                metric.description,
                ("run",) if metric.label is None else ("run", metric.label),
            ).set_default_tags({"run": run})
            for metric in metrics
        }

    def count(self, metric: Metric, by: float, label: str | None = None) -> None:
        # Ray refuses to add nothing.
        if by > 0:
            self._metrics[metric.name].inc(by, self._tags(metric, label))

    def set(self, metric: Metric, value: float, label: str | None = None) -> None:
        self._metrics[metric.name].set(value, self._tags(metric, label))

    def _tags(self, metric: Metric, label: str | None) -> dict[str, str] | None:
        return None if metric.label is None or label is None else {metric.label: label}


class RunMetrics:
    """The driver's metrics. A context manager: what Ray keeps of a run that ended has no workers.

    Args:
        run: Name of the run.
    """

    def __init__(self, run: str) -> None:
        self._exporter = _Exporter(run, tuple(m for m in METRICS if m is not GPU_MEMORY))

    def __enter__(self) -> RunMetrics:
        return self

    def __exit__(self, *_: object) -> None:
        for state in WorkerState:
            self._exporter.set(WORKERS, 0, state)
        self._set_waits(())

    def tell(self, notice: Notice) -> None:
        """Count it."""
        match notice:
            case Committed(receipt):
                self._count(receipt)
            case FailureNotice(cause=cause):
                self._exporter.count(FAILURES, 1, cause)

    def show(self, snapshot: Snapshot) -> None:
        """Set the gauges."""
        for state, number in snapshot.workers_by_state().items():
            self._exporter.set(WORKERS, number, state)
        self._set_waits(snapshot.view.waits)
        goal = snapshot.goal
        self._exporter.set(GAINED, snapshot.gained, goal.unit)
        self._exporter.set(TARGET, goal.target, goal.unit)

    def _set_waits(self, waits: Sequence[Wait]) -> None:
        seconds = {wait.cause: wait.seconds for wait in waits}
        for cause in WaitCause:
            self._exporter.set(WAITING, seconds.get(cause, 0.0), cause)

    def _count(self, receipt: Receipt) -> None:
        count = self._exporter.count
        count(SHARDS, 1)
        count(CANDIDATES, receipt.candidates)
        count(PAIRS, receipt.accepted)
        count(QUARANTINED, receipt.quarantined)
        for check, rejects in receipt.reasons.items():
            count(REJECTS, rejects, check)
        for phase, seconds in phases_of(receipt):
            count(PHASE_SECONDS, seconds, phase)


class GpuMemory:
    """A worker process' GPU memory; says nothing where nothing is on a GPU.

    Args:
        run: Name of the run.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._exporter: _Exporter | None = None

    def report(self) -> None:
        """Tell the peak so far."""
        # Asking torch for it would start CUDA; a worker that did not import torch has none.
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return
        if self._exporter is None:
            self._exporter = _Exporter(self._run, (GPU_MEMORY,))
        self._exporter.set(GPU_MEMORY, torch.cuda.max_memory_allocated())
