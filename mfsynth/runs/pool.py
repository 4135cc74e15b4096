"""The workers of a run as Ray actors: start, assign, kill, and hear what they say.

Ray's own retries are off: it would repeat a task that kills its worker, on the same batch, and
tell nobody. What is retried, where and how often is the supervisor's to decide.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from mfsynth.config import RunConfig
from mfsynth.errors import MfsynthError
from mfsynth.runs.cluster import RayCluster
from mfsynth.runs.devices import Device
from mfsynth.runs.events import StartAnswered, WorkerDied, WorkerSaid
from mfsynth.runs.patience import Patience
from mfsynth.runs.plan import Candidate
from mfsynth.runs.protocol import (
    Assignment,
    Failed,
    FailureCause,
    Message,
    NotStarted,
    StartAnswer,
    Started,
)
from mfsynth.runs.revisions import require_recorded_files
from mfsynth.runs.sizing import WorkerResources
from mfsynth.runs.understanding import vocabulary_of
from mfsynth.runs.watching.metrics import GpuMemory
from mfsynth.shards.run_manifest import read_run, require_store_of
from mfsynth.storage.errors import StoreError, StoreRefusedError
from mfsynth.storage.store import ObjectStore

if TYPE_CHECKING:
    import ray

_log = logging.getLogger(__name__)

# One shard is made while another is written and uploaded.
SHARDS_PER_WORKER = 2


class ShardMaker(Protocol):
    """What a worker process holds; `mfsynth.runs.worker.ShardWorker` is the one."""

    def make_shard(
        self, assignment: Assignment, candidates: Sequence[Candidate]
    ) -> Iterator[Message]:
        """Yield `Progress` before every batch; last, one `Made` or one `Failed`."""


OpenWorker = Callable[[RunConfig, str], ShardMaker]
WorkerEvent = StartAnswered | WorkerSaid | WorkerDied


class WorkerPool:
    """Workers by the supervisor's numbers. A context manager: leaving it ends them all.

    Args:
        config: The run; its output means the same place in every folder.
        open_worker: Makes the worker inside its process; pickled by reference or by value.
        run_sha256: Of `run.json` as the driver sees it: a worker that sees another doesn't start.
        patience: Until Ray has started.

    Attributes:
        is_local: Whether Ray was started for this run.

    Raises:
        MfsynthError: Ray cannot be reached, or lacks what the configuration asks for.
    """

    def __init__(
        self,
        config: RunConfig,
        open_worker: OpenWorker,
        run_sha256: str,
        patience: Patience | None = None,
    ) -> None:
        self._config = config
        self._open_worker = open_worker
        self._run_sha256 = run_sha256
        self._cluster = RayCluster(config.runtime, patience)
        self.is_local = self._cluster.is_local
        try:
            self.resources = WorkerResources.of(config.runtime, self._cluster.nodes())
        except MfsynthError:
            self._cluster.disconnect()
            raise
        import ray

        self._ray = ray
        self._actors: dict[int, Any] = {}
        self._starts: dict[ray.ObjectRef, int] = {}
        self._streams: dict[ray.ObjectRefGenerator, tuple[int, int]] = {}
        self._logs: dict[int, str] = {}
        self._requested = 0

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in list(self._actors):
            self.kill(number)
        if self._cluster.head_answers():
            self.request_workers(0)
        self._cluster.disconnect()

    def places(self) -> int:
        """How many workers there is room for now; nodes may have come or gone.

        Raises:
            ClusterLostError: The cluster's head is gone, or the node that the driver is on.
        """
        return self.resources.places(self._cluster.nodes())

    def request_workers(self, workers: int) -> None:
        """Tell the autoscaler of a joined cluster, if it has one, how many workers could work.

        Without it a cluster that starts with few nodes would stay so: workers are only started
        where there is room, so that none of them ever waits for a node.
        """
        elastic = self._config.runtime.ray_address is not None and self.resources.workers is None
        if elastic and workers != self._requested:
            self._cluster.request([self.resources.bundle] * workers)
            self._requested = workers

    def start(self, number: int) -> None:
        """Begin to start a worker; `poll` tells when it is ready, or why it is not.

        Raises:
            ClusterLostError: The cluster's head is gone.
        """
        resources = self.resources
        # Ray gives the head the code of every actor, and waits for it.
        self._cluster.await_head()
        actor = (
            self._ray.remote(_Actor)
            .options(
                # Ray also makes it the number of OpenMP threads (and so torch's) of the process.
                num_cpus=resources.threads,
                num_gpus=1 if resources.device == "cuda" else 0,
                max_concurrency=SHARDS_PER_WORKER,
                max_restarts=0,
                max_task_retries=0,
            )
            .remote(self._open_worker, self._config, resources.device, self._run_sha256)
        )
        self._actors[number] = actor
        self._starts[actor.start.remote()] = number

    def assign(self, number: int, assignment: Assignment, candidates: Sequence[Candidate]) -> None:
        """Give a worker a shard; `poll` tells how it goes."""
        # One message at a time: the worker waits until the driver has taken it, so that what a
        # dying worker announced last has arrived.
        stream = (
            self._actors[number]
            .make_shard.options(num_returns="streaming", _generator_backpressure_num_objects=1)
            .remote(assignment, candidates)
        )
        self._streams[stream] = (number, assignment.shard)

    def kill(self, number: int) -> None:
        """End a worker at once; nothing more is heard of it."""
        self._logs.pop(number, None)
        actor = self._actors.pop(number, None)
        if actor is not None:
            self._ray.kill(actor)
        self._starts = {ref: n for ref, n in self._starts.items() if n != number}
        self._streams = {stream: key for stream, key in self._streams.items() if key[0] != number}

    def poll(self, timeout_s: float) -> list[WorkerEvent]:
        """What happened, waiting for at most `timeout_s` seconds for something to."""
        waiting = [*self._starts, *self._streams]
        if not waiting:
            time.sleep(timeout_s)
            return []
        ready, rest = self._ray.wait(waiting, timeout=timeout_s, fetch_local=False)
        if rest:
            ready += self._ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)[0]
        return [event for ref in ready if (event := self._event(ref)) is not None]

    def _event(self, ref: Any) -> WorkerEvent | None:
        from ray.exceptions import RayError

        try:
            # RayError is the root of what ray.get raises: ActorDiedError (process or node gone),
            # OutOfMemoryError (Ray's memory monitor killed it), ActorUnavailableError (network),
            # RayTaskError (an exception inside the actor, which ours never lets out). After any
            # of them the actor is not to be trusted.
            if ref in self._starts:
                number = self._starts.pop(ref)
                answer = self._ray.get(ref)
                if isinstance(answer, Started):
                    self._logs[number] = answer.log
                return StartAnswered(number, answer)
            if ref in self._streams:
                number, shard = self._streams[ref]
                return WorkerSaid(number, shard, self._ray.get(next(ref)))
        except StopIteration:
            del self._streams[ref]
        except RayError as error:
            log = self._logs.get(number) or _log_of_the_dead(error)
            self.kill(number)
            message, node_lost = cause_of_death(error)
            # A node that is gone has taken it along.
            return WorkerDied(number, message, node_lost, "" if node_lost else log)
        return None  # the stream is over, or its worker's other shard told of the death already


class _Actor:
    """The thin shell of a worker in its process. Failures are values; only death is an error."""

    def __init__(
        self, open_worker: OpenWorker, config: RunConfig, device: str, run_sha256: str
    ) -> None:
        self._open = open_worker
        self._run_sha256 = run_sha256
        self._config = config
        self._device = device
        self._worker: ShardMaker | None = None
        self._gpu_memory = GpuMemory(config.name)

    def start(self) -> StartAnswer:
        """Find the store and load the model.

        Not in the constructor, whose errors Ray turns into deaths.
        """
        try:
            require_store_of(ObjectStore.open(self._config.output), self._run_sha256)
            self._worker = self._open(self._config, self._device)
        except StoreError as error:
            return NotStarted(str(error), may_pass=not isinstance(error, StoreRefusedError))
        except MfsynthError as error:
            return NotStarted(str(error))
        # Exception: loading a model can raise anything; the user gets its last line.
        except Exception as error:
            _log.exception("the model can't be loaded")
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return NotStarted(said, log=log_of_this_process())
        return Started(log_of_this_process())

    def make_shard(
        self, assignment: Assignment, candidates: Sequence[Candidate]
    ) -> Iterator[Message]:
        assert self._worker is not None
        for message in self._worker.make_shard(assignment, candidates):
            self._gpu_memory.report()
            if isinstance(message, Failed) and message.cause is FailureCause.ERROR:
                message = replace(message, log=log_of_this_process())
            yield message


def open_shard_worker(config: RunConfig, device: str) -> ShardMaker:
    """The worker of every real run; imported where it is needed, in the worker's process."""
    from mfsynth.models import load_pipeline
    from mfsynth.models.acceleration.compilation import compiles, each_shape_once
    from mfsynth.models.estimators.opening import open_estimator
    from mfsynth.runs.worker import ShardWorker

    require_recorded_files(config, read_run(ObjectStore.open(config.output)))
    if config.model.kind is not None:
        return _open_two_models(config, device)
    pipeline = load_pipeline(config.model, device, config.runtime)
    estimator = None if config.estimator is None else open_estimator(config.estimator, device)
    compiled = compiles(config.runtime.compile, device)
    return ShardWorker(
        config,
        pipeline,
        partial(each_shape_once, pipeline.transformer) if compiled else None,
        device=Device.here(device),
        vocabulary=vocabulary_of(config.model),
        estimator=estimator,
    )


def _open_two_models(config: RunConfig, device: str) -> ShardMaker:
    from mfsynth.models.two_models import load_two_models
    from mfsynth.runs.worker import ShardWorker

    assert config.estimator is not None  # or the configuration was refused
    model, runtime = config.model, config.runtime
    height, width = config.sampler.height, config.sampler.width
    assert height is not None  # as above
    assert width is not None
    pipeline: Any = load_two_models(model, config.estimator, device, runtime, config.camera)
    pipeline.require_own_noise(height, width)
    return ShardWorker(config, pipeline, device=Device.here(device))


def log_of_this_process() -> str:
    """`HOST:PATH` of the file that its standard error goes to; "" if that is none."""
    # Linux, where Ray gives its workers a file each.
    try:
        path = Path("/proc/self/fd/2").readlink()
    except OSError:
        return ""
    return f"{socket.gethostname()}:{path}" if path.is_file() else ""


def _log_of_the_dead(error: Exception) -> str:
    """The same of a worker that had said nothing yet, by the number of its process."""
    process = re.search(r"\bpid[:=] *(\d+)", str(error))
    address = re.search(r"\bip[:=] *(\S+)", str(error))
    if process is None or address is None:
        return ""
    import ray

    folder = ray._private.worker._global_node.get_logs_dir_path()
    return f"{address[1]}:{folder}/worker-*-{process[1]}.err"


def cause_of_death(error: Exception) -> tuple[str, bool]:
    """In words, and whether the whole node is gone."""
    from ray.exceptions import ActorUnavailableError

    text = str(error)
    if isinstance(error, ActorUnavailableError):
        # Of a process that dies on its own its node tells, in time: here nobody was left to tell.
        return "its node does not answer", True
    if getattr(error, "preempted", False) or "node has died" in text or "node failure" in text:
        return "its node is gone", True
    if match := re.search(r"Worker exit type: (\w+)", text):
        return f"its worker died ({match[1].lower().replace('_', ' ')})", False
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # A traceback ends with the exception itself.
    return f"its worker died: {lines[-1][:300] if lines else type(error).__name__}", False
