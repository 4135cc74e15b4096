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

from mfsynth.config import Fingerprint, RunConfig, fingerprint
from mfsynth.errors import MfsynthError
from mfsynth.models import ModelInfo, model_info
from mfsynth.prompts import open_prompts
from mfsynth.runs.crew import ClusterLostError, Crew, OpenWorker, open_shard_worker
from mfsynth.runs.displays import PlainDisplay, RichDisplay
from mfsynth.runs.metrics import RunMetrics
from mfsynth.runs.news import (
    Announcement,
    Cause,
    Committed,
    Failure,
    News,
    Watcher,
    failure_in,
)
from mfsynth.runs.plan import RunPlan, recorded_config
from mfsynth.runs.progress import Standing, Tally, failure_counts
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
from mfsynth.shards.commits import RunManifest, commit, gaps, open_run, read_commits
from mfsynth.shards.layout import FORMAT_VERSION, new_attempt
from mfsynth.shards.records import Receipt
from mfsynth.shards.status import RunStatus
from mfsynth.shards.store import RunStore
from mfsynth.wording import duration

# How long a signal or the display may wait while no worker speaks.
POLL_S = 0.5
# A commit is a round trip to the store, during which other shards are made: a thousand workers
# give more than ten a second, of 0.1 s each on an object store.
COMMITS_AT_ONCE = 8
# How often the driver looks while commits are under way, which wake nobody up.
COMMIT_POLL_S = 0.05
# How often the driver looks whether nodes have come or gone.
LOOK_S = 5.0
# The autoscaler is not asked for more workers than this, however long the run.
ASK_FOR_AT_MOST = 1000
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
    """How a sitting ended.

    Attributes:
        outcome: Finished, drained on request, or failed.
        reason: One line; empty for a finished run.
        tally: Totals of the run, earlier sittings included.
        status: The same as `mfsynth status` shows it.
        url: Where the output is, without credentials.
        seconds: Wall time of this sitting.
        gained: What this sitting added to the target.
        failures: Of this sitting, by cause.
        signal: The signal that asked to stop, or None.
    """

    outcome: Outcome
    reason: str
    tally: Tally
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
        """For people: the whole run, then this sitting."""
        failures = failure_counts(self.failures) or "none"
        return [
            *self.status.lines(),
            f"this time    {self.gained} {self.tally.unit} in {duration(self.seconds)}, "
            f"failures: {failures}",
        ]


def generate(
    config: RunConfig,
    *,
    open_worker: OpenWorker = open_shard_worker,
    display: Watcher | None = None,
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
    if config.sampler.mode != "joint":
        raise MfsynthError(
            f"sampler.mode: {config.sampler.mode} needs images or depth maps to begin with; "
            "generate begins with prompts only: set it to joint"
        )
    prompts = open_prompts(config.prompts, config.seed)
    model = model_info(config.model)
    store = RunStore.open(config.output)
    identity = fingerprint(config, prompts.digest, model.revision)
    manifest = open_run(store, run_manifest(config, identity, model))
    if display is None:
        display = RichDisplay() if sys.stderr.isatty() else PlainDisplay()
    plan = RunPlan.of(config, prompts)
    return _Sitting(config, plan, store, manifest, display).run(open_worker)


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
    )


class _Sitting:
    """The work of one process on a run."""

    def __init__(
        self,
        config: RunConfig,
        plan: RunPlan,
        store: RunStore,
        manifest: RunManifest,
        display: Watcher,
    ) -> None:
        self._began = time.monotonic()
        self._config = config
        self._plan = plan
        self._store = store
        self._manifest = manifest
        self._display = display
        self._watchers = [display]
        self._earlier = list(read_commits(store).values())
        self._committed = {receipt.shard for receipt in self._earlier}
        self._target = config.target.pairs or config.target.candidates or 0
        self._unit = "candidates" if config.target.pairs is None else "pairs"
        self._tally = Tally.of(self._earlier, self._target, self._unit)
        self._candidates_before = self._tally.candidates
        self._gained_before = self._tally.gained
        self._failures: Counter[Cause] = Counter()
        self._ready_since: float | None = None
        self._shown = 0.0
        self._places = 0
        self._look_at = 0.0

    def run(self, open_worker: OpenWorker) -> RunResult:
        # A finished run is recognised without starting anything.
        if isinstance(end := self._supervisor(1, 1).begin(0.0)[-1], Finish):
            return self._result(end)
        with self._display, StopRequests() as stop:
            self._say_what_is_there()
            with (
                ThreadPoolExecutor(COMMITS_AT_ONCE, "commit") as committers,
                Crew(self._config, open_worker) as crew,
                RunMetrics(self._config.name) as metrics,
            ):
                self._watchers.append(metrics)
                stop.install()  # ray.init sets a SIGTERM handler that ends the process
                try:
                    return self._drive(crew, committers, stop)
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

    def _drive(self, crew: Crew, committers: ThreadPoolExecutor, stop: StopRequests) -> RunResult:
        self._places = crew.places()
        supervisor = self._supervisor(self._places, crew.crewing.batch_size)
        self._earlier.clear()  # the receipts of a large run fill memory, and have been counted
        if not self._places:
            bundle = crew.crewing.bundle
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
                        crew.start(worker)
                    case KillWorker(worker, reason):
                        crew.kill(worker)
                        if reason:
                            text = f"worker {worker}: {reason}"
                            self._tell(Failure(Cause.DEADLINE, text, worker))
                    case Assign(worker, assignment):
                        crew.assign(worker, assignment, self._plan.shard(assignment.shard))
                    case Commit(receipt):
                        commits.add(committers.submit(self._commit, receipt))
                    case Finish():
                        wait(commits)
                        for event in _taken_from(commits):
                            self._take_note(event)
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
            events.extend(self._look_at_the_nodes(crew, supervisor))
            events.extend(_taken_from(commits))
            if not events:
                patience = _patience(supervisor.wake_at())
                events.extend(crew.poll(min(patience, COMMIT_POLL_S) if commits else patience))
            event = events.popleft() if events else Tick()
            self._take_note(event)
            actions = supervisor.handle(event, time.monotonic())
            if time.monotonic() - self._shown >= POLL_S:
                self._show(supervisor.view())

    def _look_at_the_nodes(self, crew: Crew, supervisor: Supervisor) -> list[Event]:
        if time.monotonic() < self._look_at:
            return []
        self._look_at = time.monotonic() + LOOK_S
        crew.ask_for(supervisor.shards_to_make(ASK_FOR_AT_MOST))
        before, self._places = self._places, crew.places()
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
            others = read_commits(self._store, but=self._committed)
            return [ShardCommitted(other) for other in others.values()]
        except MfsynthError as error:
            return [CommitFailed(receipt.shard, str(error))]

    def _take_note(self, event: Event) -> None:
        """Keep the books and tell people."""
        match event:
            case WorkerReady():
                self._ready_since = self._ready_since or time.monotonic()
            case ShardCommitted(receipt) if receipt.shard not in self._committed:
                self._committed.add(receipt.shard)
                self._tally.add(receipt)
                self._tell(Committed(receipt))
            case _ if failure := failure_in(event):
                self._tell(failure)

    def _say_what_is_there(self) -> None:
        there, url = self._tally, self._store.url
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

    def _tell(self, news: News) -> None:
        if isinstance(news, Failure):
            self._failures[news.cause] += 1
        for watcher in self._watchers:
            watcher.tell(news)

    def _show(self, view: View) -> None:
        self._shown = time.monotonic()
        standing = Standing(
            tally=self._tally,
            view=view,
            seconds=self._shown - self._ready_since if self._ready_since else 0.0,
            made=self._tally.candidates - self._candidates_before + view.in_work,
            shard_size=self._config.shard_size,
            failures=self._failures,
        )
        for watcher in self._watchers:
            watcher.show(standing)

    def _result(self, end: Finish, signal: int | None = None) -> RunResult:
        missing = gaps(self._committed)
        return RunResult(
            outcome=end.outcome,
            reason=end.reason,
            tally=self._tally,
            status=RunStatus.of(self._manifest, self._store.url, self._tally, missing),
            url=self._store.url,
            seconds=time.monotonic() - self._began,
            gained=self._tally.gained - self._gained_before,
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
