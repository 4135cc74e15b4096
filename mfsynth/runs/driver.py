"""The driver of a run: asks the supervisor, obeys it, and tells it what came of it.

Only `run.json` and the commits outlive it. It may be killed at any instant and started again with
the same command; what it had in work is made again, what it had committed is not.
"""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from pydantic import SecretStr

from mfsynth.config import RunConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import model_info, require_gpu
from mfsynth.models.understanding import Understanding
from mfsynth.runs.attempts import Attempts
from mfsynth.runs.cluster import ClusterLostError
from mfsynth.runs.committing import Committer
from mfsynth.runs.compacting import Compactor
from mfsynth.runs.doctor.examination import examine_at_start
from mfsynth.runs.doctor.findings import Finding, Severity
from mfsynth.runs.estimator import run_estimator
from mfsynth.runs.events import (
    Action,
    Assign,
    Commit,
    Drain,
    Event,
    Finish,
    KillWorker,
    Outcome,
    PlacesChanged,
    StartWorker,
    Tick,
    View,
    Wait,
)
from mfsynth.runs.heartbeat import Heartbeat
from mfsynth.runs.items import RunItems
from mfsynth.runs.jobs import require_job, require_usable
from mfsynth.runs.ledger import ShardLedger
from mfsynth.runs.manifest import run_manifest
from mfsynth.runs.patience import Patience, StoppedError
from mfsynth.runs.plan import RunPlan
from mfsynth.runs.policy import Goal, Policy
from mfsynth.runs.pool import OpenWorker, WorkerPool, open_shard_worker
from mfsynth.runs.result import RunResult
from mfsynth.runs.revisions import pinned
from mfsynth.runs.settings import complete, require_trained_for
from mfsynth.runs.signals import StopRequests
from mfsynth.runs.supervisor import Supervisor
from mfsynth.runs.understanding import (
    PROMPTS_LOOKED_AT,
    REMEDY,
    require_understood,
    understanding,
    vocabulary_of,
)
from mfsynth.runs.watching.alerts import FAILED, FINISHED, VARIABLE, alerts
from mfsynth.runs.watching.metrics import RunMetrics
from mfsynth.runs.watching.notices import Announcement, Observer
from mfsynth.runs.watching.reporter import Reporter
from mfsynth.runs.watching.runlog import RunLog
from mfsynth.runs.watching.terminal import default_display
from mfsynth.shards.commits import gaps
from mfsynth.shards.documents.card import first_card
from mfsynth.shards.drivers import read_known_commits
from mfsynth.shards.layout import CARD_KEY, new_attempt
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import RunManifest, open_run, run_sha256
from mfsynth.shards.status import RunStatus
from mfsynth.storage.store import ObjectStore

# How long a signal or the display may wait while no worker speaks.
POLL_S = 0.5
# How often the driver looks while commits are under way, which wake nobody up.
COMMIT_POLL_S = 0.05
# How often the driver looks whether nodes have come or gone.
NODE_POLL_S = 5.0
# The autoscaler is not asked for more workers than this, however long the run.
MAX_REQUESTED_WORKERS = 1000


def generate(
    config: RunConfig,
    *,
    job: str = "generate",
    open_worker: OpenWorker = open_shard_worker,
    display: Observer | None = None,
) -> RunResult:
    """Start or resume a run and drive it until its target, or the end of its source, is reached.

    SIGTERM, SIGINT and SIGHUP drain it: shards in work are finished and committed, no new ones
    begun. A second signal stops at once. Handlers are restored on return.

    Args:
        config: The run; its mode must be that of the job. `runtime.on_event`, or
            `MFSYNTH_ON_EVENT`, is told how it ends.
        job: The command that makes such pairs; of `mfsynth.runs.jobs.JOBS`.
        open_worker: Makes the worker inside its process.
        display: Where to show progress; by default rich on a terminal, plain lines elsewhere. It is
            told in the driver's own loop: put one that may fail or hang into an `Aside`.

    Raises:
        MfsynthError: The run cannot start: prompts, model, output or Ray are not as they
            should be, or the run has lost its receipts. A run that fails later is a `RunResult`
            with its reason.
    """
    require_job(job, config)
    target = config.runtime.on_event or SecretStr(os.environ.get(VARIABLE, ""))
    # Nobody else is to know: it is neither stored nor sent to workers.
    runtime = config.runtime.model_copy(update={"on_event": None})
    config = config.model_copy(update={"runtime": runtime})
    with alerts(target.get_secret_value(), config.name, config.output) as somebody:
        try:
            result = _generate(config, open_worker, display or default_display(), somebody)
        # Exception: whatever it is, there is no run any more.
        except Exception as error:
            somebody.tell(Announcement(FAILED, str(error)))
            raise
        if result.outcome is not Outcome.DRAINED:
            failed = result.outcome is Outcome.FAILED
            counts = {"pairs": result.totals.accepted, "shards": result.totals.shards}
            text = result.reason or f"finished: {result.totals.accepted} pairs"
            somebody.tell(Announcement(FAILED if failed else FINISHED, text, counts))
        return result


def _generate(
    config: RunConfig, open_worker: OpenWorker, display: Observer, somebody: Observer
) -> RunResult:
    config = complete(config)
    if config.runtime.device == "cuda" and config.runtime.ray_address is None:
        require_gpu("runtime.device")
    items = RunItems(config)
    model = model_info(config.model)
    require_trained_for(config.sampler, model)
    estimator = run_estimator(config)
    read = understanding(vocabulary_of(config.model), items.distinct_texts(PROMPTS_LOOKED_AT))
    require_understood(read, config.prompts)
    seen = require_usable(items, config)
    store = ObjectStore.open(config.output)
    identity = items.fingerprint(model.revision, estimator)
    described = run_manifest(config, identity, model, items, estimator)
    manifest = open_run(store, described)
    store.create_if_absent(CARD_KEY, first_card(manifest).encode())
    plan = RunPlan.of(config, items, manifest.fingerprint)
    # Workers may be in other folders, where a relative path is another place.
    config = pinned(config, identity.settings).model_copy(update={"output": store.location})
    examine = partial(
        examine_at_start, config, store, model, estimator=estimator, items=items, seen=seen
    )
    return _Session(config, plan, store, manifest, examine, read, display, somebody).run(
        open_worker
    )


class _Session:
    """The work of one process on a run."""

    def __init__(
        self,
        config: RunConfig,
        plan: RunPlan,
        store: ObjectStore,
        manifest: RunManifest,
        examine: Callable[[Sequence[Receipt]], Iterator[tuple[str, Finding]]],
        read: Understanding | None,
        display: Observer,
        somebody: Observer,
    ) -> None:
        self._began = time.monotonic()
        self._config = config
        self._plan = plan
        self._store = store
        self._manifest = manifest
        self._examine = examine
        self._read = read
        self._display = display
        self._goal = Goal.of(config, plan.end)
        self._earlier = list(read_known_commits(store).values())
        self._reporter = Reporter(self._goal, self._earlier, display)
        self._attempts = Attempts()
        self._reporter.add_observer(somebody)
        self._shown = 0.0
        self._places = 0
        self._poll_nodes_at = 0.0

    def run(self, open_worker: OpenWorker) -> RunResult:
        # How a run has ended is recognised without starting anything.
        if (reason := self._plan.too_many(self._reporter.totals.quarantined)) is not None:
            return self._result(Finish(Outcome.FAILED, reason))
        if ShardLedger(self._goal, self._earlier).is_complete:
            return self._result(Finish(Outcome.FINISHED))
        with self._display, StopRequests() as stop, RunLog(self._store) as log:
            self._reporter.add_observer(log)
            self._say_what_is_there()
            try:
                result = self._work(open_worker, stop)
            except StoppedError as error:
                result = self._result(Finish(Outcome.DRAINED, str(error)), stop.first)
            for line in (result.reason or result.outcome.value, *result.lines()):
                log.write(line)
        return replace(result, log=log.url)

    def _work(self, open_worker: OpenWorker, stop: StopRequests) -> RunResult:
        with (
            Heartbeat(self._store, lambda: len(self._reporter.committed)) as heartbeat,
            Committer(self._store, self._reporter.committed) as committer,
            Compactor(self._store, self._reporter.committed) as compactor,
            WorkerPool(
                self._config, open_worker, run_sha256(self._store), self._patience(stop)
            ) as pool,
            RunMetrics(self._config.name) as metrics,
        ):
            self._reporter.add_observer(metrics)
            self._reporter.add_observer(compactor)
            stop.install()  # ray.init sets a SIGTERM handler that ends the process
            try:
                end = self._drive(pool, committer, heartbeat, stop)
            except ClusterLostError as error:
                end = self._lost(error, pool, stop)
            self._settle(committer)
            return self._result(end, stop.first)

    def _settle(self, committer: Committer) -> None:
        """Wait for the commits under way, which are in the store before this process ends."""
        for ending in committer.take_all():
            self._record(ending)

    def _lost(self, error: ClusterLostError, pool: WorkerPool, stop: StopRequests) -> Finish:
        if stop.count and pool.is_local:
            # Whoever sent the signal sent it to Ray, too.
            return Finish(
                Outcome.DRAINED,
                "stopped on request; Ray was stopped, too, so that the shards in work are lost, "
                "nothing else",
            )
        return Finish(Outcome.FAILED, str(error))

    def _patience(self, stop: StopRequests) -> Patience:
        """Until there is a Ray: nothing else goes on, and metrics need one."""

        def look(wait: Wait) -> bool:
            self._show(View(0, (), (wait,)))
            return stop.count > 0

        return Patience(self._config.runtime.patience_s, look)

    def _show(self, view: View) -> None:
        if time.monotonic() - self._shown >= POLL_S:
            self._shown = time.monotonic()
            self._reporter.show(view)

    def _drive(
        self, pool: WorkerPool, committer: Committer, heartbeat: Heartbeat, stop: StopRequests
    ) -> Finish:
        reporter = self._reporter
        self._places = pool.places()
        supervisor = self._supervisor(pool.resources.batch_size)
        self._earlier.clear()  # the receipts of a large run fill memory, and have been counted
        if not self._places:
            bundle = pool.resources.bundle
            reporter.announce(
                "waiting_for_node", f"waiting for a node with room for a worker: {bundle}", **bundle
            )
        events: deque[Event] = deque()
        draining = False
        actions = supervisor.begin(time.monotonic())
        while True:
            for action in actions:
                match action:
                    case StartWorker(worker):
                        pool.start(worker)
                    case KillWorker(worker):
                        pool.kill(worker)
                    case Assign(worker, assignment):
                        pool.assign(worker, assignment, self._plan.shard(assignment.shard))
                    case Commit(receipt):
                        retries = self._attempts.failed(receipt.shard)
                        committer.begin(replace(receipt, retries=retries))
                    case Finish():
                        self._settle(committer)
                        reporter.show(supervisor.view())
                        return action
                self._record(action)
            if stop.count > 1:
                return Finish(Outcome.DRAINED, "stopped at once")
            if stop.count and not draining:
                draining = True
                reporter.announce(
                    "draining",
                    "finishing the shards in work, then stopping; a second signal stops at once "
                    "and loses their work, nothing else",
                )
                events.append(Drain())
            events.extend(self._poll_nodes(pool, supervisor))
            events.extend(committer.take())
            if not events:
                patience = _patience(supervisor.wake_at())
                events.extend(
                    pool.poll(min(patience, COMMIT_POLL_S) if committer.is_busy else patience)
                )
            event = events.popleft() if events else Tick()
            self._record(event)
            if (reason := self._plan.too_many(self._reporter.totals.quarantined)) is not None:
                return Finish(Outcome.FAILED, reason)
            actions = supervisor.handle(event, time.monotonic())
            if time.monotonic() - self._shown >= POLL_S:
                self._show(supervisor.view())
                self._say_who_else_is_there(heartbeat)

    def _record(self, happened: Event | Action) -> None:
        self._attempts.note(happened)
        self._reporter.record(happened)

    def _supervisor(self, batch_size: int) -> Supervisor:
        policy = Policy(
            target=self._goal.target,
            counts_pairs=self._goal.counts_pairs,
            shard_size=self._goal.shard_size,
            end=self._goal.end,
            workers=self._places,
            batch_size=batch_size,
            deadline_s=self._config.runtime.deadline_s,
            max_attempts=self._config.runtime.max_attempts,
            patience_s=self._config.runtime.patience_s,
        )
        return Supervisor(policy, self._earlier, new_attempt, random.Random())

    def _poll_nodes(self, pool: WorkerPool, supervisor: Supervisor) -> list[Event]:
        if time.monotonic() < self._poll_nodes_at:
            return []
        self._poll_nodes_at = time.monotonic() + NODE_POLL_S
        pool.request_workers(supervisor.shards_to_make(MAX_REQUESTED_WORKERS))
        before, self._places = self._places, pool.places()
        if self._places == before:
            return []
        self._reporter.announce(
            "places_changed",
            f"room for {self._places} workers, {before} before",
            places=self._places,
            before=before,
        )
        return [PlacesChanged(self._places)]

    def _say_what_is_there(self) -> None:
        goal, totals, url = self._goal, self._reporter.totals, self._store.url
        gained = goal.gained(totals)
        if totals.shards:
            there = f"{gained} of {goal.target} {goal.unit} are there, in {totals.shards} shards"
            event, text = "resuming", f"resuming {url}: {there}"
        else:
            event = "starting"
            text = f"starting workers for {url}: {goal.target} {goal.unit} to make"
        self._reporter.announce(
            event, text, url=url, unit=goal.unit, target=goal.target, gained=gained
        )
        for name, found in self._examine(self._earlier):
            if found.severity is Severity.ERROR:
                raise MfsynthError(f"{name}: {found.line}")
            if found.severity is not Severity.OK:
                severity = found.severity.word
                self._reporter.announce(name.replace(" ", "_"), found.line, severity=severity)
        if (read := self._read) is not None and read.trouble:
            self._reporter.announce(
                "prompts_not_understood",
                f"warning: {read.trouble}: {REMEDY}",
                prompts=read.prompts,
                unknown=read.unknown,
                cut=read.cut,
            )

    def _say_who_else_is_there(self, heartbeat: Heartbeat) -> None:
        for host in heartbeat.other_drivers():
            self._reporter.announce(
                "another_driver",
                f"another driver is at work on this run{f', on {host}' if host else ''}: of a "
                "shard that both make, the first commit counts",
                host=host,
            )

    def _result(self, end: Finish, signal: int | None = None) -> RunResult:
        reporter, url = self._reporter, self._store.url
        return RunResult(
            outcome=end.outcome,
            reason=end.reason,
            totals=reporter.totals,
            status=RunStatus.of(self._manifest, url, reporter.totals, gaps(reporter.committed)),
            url=url,
            seconds=time.monotonic() - self._began,
            gained=reporter.gained,
            unit=self._goal.unit,
            failures=reporter.failures,
            signal=signal,
            target=self._goal.target,
        )


def _patience(wake_at: float | None) -> float:
    if wake_at is None:
        return POLL_S
    return min(POLL_S, max(0.0, wake_at - time.monotonic()))
