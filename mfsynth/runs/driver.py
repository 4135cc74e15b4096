"""The driver of a run: asks the supervisor, obeys it, and tells it what came of it.

Only `run.json` and the commits outlive it. It may be killed at any instant and started again with
the same command; what it had in work is made again, what it had committed is not.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from mfsynth.config import Fingerprint, RunConfig
from mfsynth.errors import MfsynthError
from mfsynth.formatting import duration
from mfsynth.models import ModelInfo, model_info
from mfsynth.prompts import open_prompts
from mfsynth.runs.plan import RunPlan, recorded_config
from mfsynth.runs.pool import ClusterLostError, OpenWorker, WorkerPool, open_shard_worker
from mfsynth.runs.settings import complete, run_fingerprint, score_infos
from mfsynth.runs.signals import StopRequests
from mfsynth.runs.supervisor import (
    Assign,
    Commit,
    CommitFailed,
    Drain,
    Event,
    Finish,
    KillWorker,
    Outcome,
    PlacesChanged,
    Policy,
    ShardCommitted,
    StartWorker,
    Supervisor,
    Tick,
    View,
    WorkerReady,
)
from mfsynth.runs.watching.metrics import RunMetrics
from mfsynth.runs.watching.notices import (
    Announcement,
    Cause,
    Committed,
    Failure,
    Notice,
    Observer,
    failure_in,
)
from mfsynth.runs.watching.snapshot import RunTotals, Snapshot, failure_counts
from mfsynth.runs.watching.terminal import PlainDisplay, RichDisplay
from mfsynth.shards.commits import RunManifest, commit, gaps, open_run, read_commits
from mfsynth.shards.layout import FORMAT_VERSION, new_attempt
from mfsynth.shards.records import Receipt
from mfsynth.shards.status import RunStatus
from mfsynth.storage.store import ObjectStore

# How long a signal or the display may wait while no worker speaks.
POLL_S = 0.5
# A commit is a round trip to the store, during which other shards are made: a thousand workers
# give more than ten a second, of 0.1 s each on an object store.
COMMITS_AT_ONCE = 8
# How often the driver looks while commits are under way, which wake nobody up.
COMMIT_POLL_S = 0.05
# How often the driver looks whether nodes have come or gone.
NODE_POLL_S = 5.0
# The autoscaler is not asked for more workers than this, however long the run.
MAX_REQUESTED_WORKERS = 1000
# Whatever decides the bytes of the output.
RECORDED_PACKAGES = (
    "mfsynth",
    "torch",
    "diffusers",
    "transformers",
    "numpy",
    "pyarrow",
    "opencv-python-headless",
    "simplejpeg",
    "ray",
)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a session ended.

    Attributes:
        outcome: Finished, drained on request, or failed.
        reason: One line; empty for a finished run.
        totals: Totals of the run, earlier sessions included.
        status: The same as `mfsynth status` shows it.
        url: Where the output is, without credentials.
        seconds: Wall time of this session.
        gained: What this session added to the target.
        failures: Of this session, by cause.
        signal: The signal that asked to stop, or None.
    """

    outcome: Outcome
    reason: str
    totals: RunTotals
    status: RunStatus
    url: str
    seconds: float
    gained: int
    failures: Mapping[Cause, int]
    signal: int | None

    @property
    def exit_status(self) -> int:
        """Of the process: as shells have it where a signal asked to stop."""
        match self.outcome:
            case Outcome.FINISHED:
                return 0
            case Outcome.FAILED:
                return 1
            case Outcome.DRAINED:
                return 128 + (self.signal or 0)

    def lines(self) -> list[str]:
        """For people: the whole run, then this session."""
        failures = failure_counts(self.failures) or "none"
        return [
            *self.status.lines(),
            f"this time    {self.gained} {self.totals.unit} in {duration(self.seconds)}, "
            f"failures: {failures}",
        ]


def generate(
    config: RunConfig,
    *,
    open_worker: OpenWorker = open_shard_worker,
    display: Observer | None = None,
) -> RunResult:
    """Start or resume a run and drive it until its target is reached.

    SIGTERM and SIGINT drain it: shards in work are finished and committed, no new ones begun.
    A second signal stops at once. Handlers are restored on return.

    Args:
        config: The run.
        open_worker: Makes the worker inside its process.
        display: Where to show progress; by default rich on a terminal, plain lines elsewhere.

    Raises:
        MfsynthError: The run cannot start: prompts, model, output or Ray are not as they
            should be. A run that fails later is a `RunResult` with its reason.
    """
    config = complete(config)
    if config.sampler.mode != "joint":
        raise MfsynthError(
            f"sampler.mode: {config.sampler.mode} needs images or depth maps to begin with; "
            "generate begins with prompts only: set it to joint"
        )
    prompts = open_prompts(config.prompts, config.seed)
    model = model_info(config.model)
    store = ObjectStore.open(config.output)
    identity = run_fingerprint(config, prompts.digest, model.revision)
    manifest = open_run(store, run_manifest(config, identity, model))
    if display is None:
        display = RichDisplay() if sys.stderr.isatty() else PlainDisplay()
    plan = RunPlan.of(config, prompts)
    return _Session(config, plan, store, manifest, display).run(open_worker)


def run_manifest(config: RunConfig, identity: Fingerprint, model: ModelInfo) -> RunManifest:
    """What is written into the output's `run.json`; it holds no credentials."""
    return RunManifest(
        format_version=FORMAT_VERSION,
        run=config.name,
        fingerprint=identity.digest,
        settings=identity.settings,
        config=recorded_config(config),
        versions={name: found for name in RECORDED_PACKAGES if (found := _version(name))},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model={"id": model.id, "revision": model.revision, "licence": model.licence},
        scores=score_infos(config),
    )


class _Session:
    """The work of one process on a run."""

    def __init__(
        self,
        config: RunConfig,
        plan: RunPlan,
        store: ObjectStore,
        manifest: RunManifest,
        display: Observer,
    ) -> None:
        self._began = time.monotonic()
        self._config = config
        self._plan = plan
        self._store = store
        self._manifest = manifest
        self._display = display
        self._observers = [display]
        self._earlier = list(read_commits(store).values())
        self._committed = {receipt.shard for receipt in self._earlier}
        self._target = config.target.pairs or config.target.candidates or 0
        self._unit = "candidates" if config.target.pairs is None else "pairs"
        self._totals = RunTotals.of(self._earlier, self._target, self._unit)
        self._candidates_before = self._totals.candidates
        self._gained_before = self._totals.gained
        self._failures: Counter[Cause] = Counter()
        self._ready_since: float | None = None
        self._shown = 0.0
        self._places = 0
        self._poll_nodes_at = 0.0

    def run(self, open_worker: OpenWorker) -> RunResult:
        # A finished run is recognised without starting anything.
        if isinstance(end := self._supervisor(1, 1).begin(0.0)[-1], Finish):
            return self._result(end)
        with self._display, StopRequests() as stop:
            self._say_what_is_there()
            with (
                ThreadPoolExecutor(COMMITS_AT_ONCE, "commit") as committers,
                WorkerPool(self._config, open_worker) as pool,
                RunMetrics(self._config.name) as metrics,
            ):
                self._observers.append(metrics)
                stop.install()  # ray.init sets a SIGTERM handler that ends the process
                try:
                    return self._drive(pool, committers, stop)
                except ClusterLostError as error:
                    return self._result(Finish(Outcome.FAILED, str(error)), stop.first)

    def _supervisor(self, workers: int, batch_size: int) -> Supervisor:
        policy = Policy(
            target=self._target,
            counts_pairs=self._unit == "pairs",
            shard_size=self._config.shard_size,
            workers=workers,
            batch_size=batch_size,
            deadline_s=self._config.runtime.deadline_s,
            max_attempts=self._config.runtime.max_attempts,
        )
        return Supervisor(policy, self._earlier, new_attempt, random.Random())

    def _drive(
        self, pool: WorkerPool, committers: ThreadPoolExecutor, stop: StopRequests
    ) -> RunResult:
        self._places = pool.places()
        supervisor = self._supervisor(self._places, pool.resources.batch_size)
        self._earlier.clear()  # the receipts of a large run fill memory, and have been counted
        if not self._places:
            bundle = pool.resources.bundle
            self._announce(
                "waiting_for_node", f"waiting for a node with room for a worker: {bundle}", **bundle
            )
        events: deque[Event] = deque()
        commits: set[Future[list[Event]]] = set()
        draining = False
        actions = supervisor.begin(time.monotonic())
        while True:
            for action in actions:
                match action:
                    case StartWorker(worker):
                        pool.start(worker)
                    case KillWorker(worker, reason):
                        pool.kill(worker)
                        if reason:
                            text = f"worker {worker}: {reason}"
                            self._tell(Failure(Cause.DEADLINE, text, worker))
                    case Assign(worker, assignment):
                        pool.assign(worker, assignment, self._plan.shard(assignment.shard))
                    case Commit(receipt):
                        commits.add(committers.submit(self._commit, receipt))
                    case Finish():
                        wait(commits)
                        for event in _taken_from(commits):
                            self._record(event)
                        self._show(supervisor.view())
                        return self._result(action, stop.first)
            if stop.count > 1:
                return self._result(Finish(Outcome.DRAINED, "stopped at once"), stop.first)
            if stop.count and not draining:
                draining = True
                self._announce(
                    "draining",
                    "finishing the shards in work, then stopping; a second signal stops at once "
                    "and loses their work, nothing else",
                )
                events.append(Drain())
            events.extend(self._poll_nodes(pool, supervisor))
            events.extend(_taken_from(commits))
            if not events:
                patience = _patience(supervisor.wake_at())
                events.extend(pool.poll(min(patience, COMMIT_POLL_S) if commits else patience))
            event = events.popleft() if events else Tick()
            self._record(event)
            actions = supervisor.handle(event, time.monotonic())
            if time.monotonic() - self._shown >= POLL_S:
                self._show(supervisor.view())

    def _poll_nodes(self, pool: WorkerPool, supervisor: Supervisor) -> list[Event]:
        if time.monotonic() < self._poll_nodes_at:
            return []
        self._poll_nodes_at = time.monotonic() + NODE_POLL_S
        pool.request_workers(supervisor.shards_to_make(MAX_REQUESTED_WORKERS))
        before, self._places = self._places, pool.places()
        if self._places == before:
            return []
        self._announce(
            "places_changed",
            f"room for {self._places} workers, {before} before",
            places=self._places,
            before=before,
        )
        return [PlacesChanged(self._places)]

    def _commit(self, receipt: Receipt) -> list[Event]:
        """Commit, and learn what the store holds; if another driver was faster, all it did."""
        try:
            if commit(self._store, receipt):
                return [ShardCommitted(receipt)]
            others = read_commits(self._store, exclude=self._committed)
            return [ShardCommitted(other) for other in others.values()]
        except MfsynthError as error:
            return [CommitFailed(receipt.shard, str(error))]

    def _record(self, event: Event) -> None:
        """Keep the books and tell people."""
        match event:
            case WorkerReady():
                self._ready_since = self._ready_since or time.monotonic()
            case ShardCommitted(receipt) if receipt.shard not in self._committed:
                self._committed.add(receipt.shard)
                self._totals.add(receipt)
                self._tell(Committed(receipt))
            case _ if failure := failure_in(event):
                self._tell(failure)

    def _say_what_is_there(self) -> None:
        there, url = self._totals, self._store.url
        fields: dict[str, str | int | float] = {
            "url": url,
            "unit": self._unit,
            "target": self._target,
            "gained": there.gained,
        }
        if there.shards:
            wanted = f"{there.gained} of {self._target} {self._unit} are there"
            self._announce(
                "resuming", f"resuming {url}: {wanted}, in {there.shards} shards", **fields
            )
        else:
            wanted = f"{self._target} {self._unit} to make"
            self._announce("starting", f"starting workers for {url}: {wanted}", **fields)
        if not self._store.honours_create_if_absent():
            self._announce(
                "one_driver_only", f"{url} ignores conditional writes: give it one driver at a time"
            )

    def _announce(self, event: str, text: str, **fields: str | int | float) -> None:
        self._tell(Announcement(event, text, fields))

    def _tell(self, notice: Notice) -> None:
        if isinstance(notice, Failure):
            self._failures[notice.cause] += 1
        for observer in self._observers:
            observer.tell(notice)

    def _show(self, view: View) -> None:
        self._shown = time.monotonic()
        snapshot = Snapshot(
            totals=self._totals,
            view=view,
            seconds=self._shown - self._ready_since if self._ready_since else 0.0,
            made=self._totals.candidates - self._candidates_before + view.in_work,
            shard_size=self._config.shard_size,
            failures=self._failures,
        )
        for observer in self._observers:
            observer.show(snapshot)

    def _result(self, end: Finish, signal: int | None = None) -> RunResult:
        missing = gaps(self._committed)
        return RunResult(
            outcome=end.outcome,
            reason=end.reason,
            totals=self._totals,
            status=RunStatus.of(self._manifest, self._store.url, self._totals, missing),
            url=self._store.url,
            seconds=time.monotonic() - self._began,
            gained=self._totals.gained - self._gained_before,
            failures=self._failures,
            signal=signal,
        )


def _taken_from(commits: set[Future[list[Event]]]) -> list[Event]:
    """What the commits that are through have led to; they leave the set."""
    through = {commit for commit in commits if commit.done()}
    commits -= through
    return [event for commit in through for event in commit.result()]


def _patience(wake_at: float | None) -> float:
    if wake_at is None:
        return POLL_S
    return min(POLL_S, max(0.0, wake_at - time.monotonic()))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
