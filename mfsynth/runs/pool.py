"""The workers of a run as Ray actors: start, assign, kill, and hear what they say.

Ray's own retries are off: it would repeat a task that kills its worker, on the same batch, and
tell nobody. What is retried, where and how often is the supervisor's to decide.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from mfsynth.config import RunConfig, RuntimeConfig
from mfsynth.errors import MfsynthError
from mfsynth.runs.plan import Candidate
from mfsynth.runs.protocol import (
    Assignment,
    Failed,
    Made,
    Message,
    NotStarted,
    Progress,
    Started,
)
from mfsynth.runs.supervisor import (
    BatchStarted,
    Event,
    ShardFailed,
    ShardMade,
    WorkerDied,
    WorkerFailedToStart,
    WorkerReady,
)
from mfsynth.runs.watching.metrics import GpuMemory

if TYPE_CHECKING:
    import ray

# On a CPU more threads than this a worker bring little at the sizes of small models.
THREADS_PER_WORKER = 2
CPU_BATCH_SIZE = 16
# Halved until it fits, so it may be generous.
CUDA_BATCH_SIZE = 32
# One shard is made while another is written and uploaded.
SHARDS_PER_WORKER = 2
# Pixels never pass through Ray's object store: the smallest one it allows is plenty.
OBJECT_STORE_BYTES = 80 * 2**20
# A head may be started again. Ray itself ends the driver in mid-call when it has lost sight of it
# for so long as is set here; by then we must be through, and leaving such a cluster takes time.
HEAD_PATIENCE_S = 30.0
RAYS_PATIENCE_S = 180
PROBE_S = 1.0


class ClusterLostError(MfsynthError):
    """The cluster went away under a run; the same command goes on, on any other one."""


class ShardMaker(Protocol):
    """What a worker process holds; `mfsynth.runs.worker.ShardWorker` is the one."""

    def make_shard(
        self, assignment: Assignment, candidates: Sequence[Candidate]
    ) -> Iterator[Message]:
        """Yield `Progress` before every batch; last, one `Made` or one `Failed`."""


OpenWorker = Callable[[RunConfig, str], ShardMaker]


Resources = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class WorkerResources:
    """How many workers there are and what each one has.

    Attributes:
        workers: Workers alive at a time; None = as many as the nodes have room for.
        device: `cpu` or `cuda`; a `cuda` worker has one GPU for itself.
        threads: CPU cores, and threads, a worker.
        batch_size: Candidates made together, to begin with.
    """

    workers: int | None
    device: str
    threads: int
    batch_size: int

    @classmethod
    def of(cls, runtime: RuntimeConfig, nodes: Sequence[Resources]) -> WorkerResources:
        """Fill in what the configuration leaves to `auto`.

        Args:
            runtime: The configuration.
            nodes: `CPU` and `GPU` of each node.

        Raises:
            MfsynthError: `cuda` is asked for and there is no GPU.
        """
        joins = runtime.ray_address is not None
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        device = runtime.device
        if device == "auto":
            device = "cuda" if gpus else "cpu"
        if device == "cuda" and not gpus:
            raise MfsynthError(
                "runtime.device: cuda, but Ray sees no GPU; set it to cpu, mend the driver, or "
                "give the cluster its first GPU node"
            )
        on_gpu = device == "cuda"
        # The head of a cluster often has no cores to give, and may be all there is yet.
        cpus = max((int(node.get("CPU", 0)) for node in nodes), default=0) or THREADS_PER_WORKER
        if joins:
            threads = 1 if on_gpu else THREADS_PER_WORKER
        else:
            here = gpus if on_gpu else cpus // THREADS_PER_WORKER
            workers = here if runtime.workers == "auto" else runtime.workers
            threads = cpus // max(1, workers)
        batch_size = CUDA_BATCH_SIZE if on_gpu else CPU_BATCH_SIZE
        return cls(
            workers=None if runtime.workers == "auto" else runtime.workers,
            device=device,
            threads=max(1, min(threads, cpus)),
            batch_size=batch_size if runtime.batch_size == "auto" else runtime.batch_size,
        )

    @property
    def bundle(self) -> dict[str, float]:
        """What Ray must reserve for a worker."""
        return {"CPU": self.threads, "GPU": 1} if self.device == "cuda" else {"CPU": self.threads}

    def places(self, nodes: Sequence[Resources]) -> int:
        """How many workers there may be on these nodes; a worker is never spread over two."""
        if self.workers is not None:
            return self.workers
        return sum(
            min(int(node.get(name, 0) // amount) for name, amount in self.bundle.items())
            for node in nodes
        )


class WorkerPool:
    """Workers by the supervisor's numbers. A context manager: leaving it ends them all.

    Args:
        config: The run.
        open_worker: Makes the worker inside its process; pickled by reference or by value.

    Raises:
        MfsynthError: Ray cannot be reached, or lacks what the configuration asks for.
    """

    def __init__(self, config: RunConfig, open_worker: OpenWorker) -> None:
        _quieten_ray()
        if config.runtime.ray_address is not None:
            os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(RAYS_PATIENCE_S))
        import ray

        self._ray = ray
        self._config = config
        self._open_worker = open_worker
        self._connect(config.runtime)
        context = ray.get_runtime_context()
        self._head, self._own_node = context.gcs_address, context.get_node_id()
        try:
            self.resources = WorkerResources.of(config.runtime, self._nodes())
        except MfsynthError:
            ray.shutdown()
            raise
        self._actors: dict[int, Any] = {}
        self._starts: dict[ray.ObjectRef, int] = {}
        self._streams: dict[ray.ObjectRefGenerator, tuple[int, int]] = {}
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
        if self._head_answers():
            self.request_workers(0)
        self._ray.shutdown()

    def places(self) -> int:
        """How many workers there is room for now; nodes may have come or gone.

        Raises:
            ClusterLostError: The cluster's head is gone, or the node that the driver is on.
        """
        return self.resources.places(self._nodes())

    def request_workers(self, workers: int) -> None:
        """Tell the autoscaler of a joined cluster, if it has one, how many workers could work.

        Without it a cluster that starts with few nodes would stay so: workers are only started
        where there is room, so that none of them ever waits for a node. The wish outlives a
        driver that is killed, until the next one's.
        """
        elastic = self._config.runtime.ray_address is not None and self.resources.workers is None
        if elastic and workers != self._requested:
            from ray.autoscaler.sdk import request_resources

            self._await_head()
            request_resources(bundles=[self.resources.bundle] * workers)
            self._requested = workers

    def start(self, number: int) -> None:
        """Begin to start a worker; `poll` tells when it is ready, or why it is not.

        Raises:
            ClusterLostError: The cluster's head is gone.
        """
        resources = self.resources
        # Ray gives the head the code of every actor, and waits for it.
        self._await_head()
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
            .remote(self._open_worker, self._config, resources.device)
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
        actor = self._actors.pop(number, None)
        if actor is not None:
            self._ray.kill(actor)
        self._starts = {ref: n for ref, n in self._starts.items() if n != number}
        self._streams = {stream: key for stream, key in self._streams.items() if key[0] != number}

    def poll(self, timeout_s: float) -> list[Event]:
        """What happened, waiting for at most `timeout_s` seconds for something to."""
        waiting = [*self._starts, *self._streams]
        if not waiting:
            time.sleep(timeout_s)
            return []
        ready, rest = self._ray.wait(waiting, timeout=timeout_s, fetch_local=False)
        if rest:
            ready += self._ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)[0]
        return [event for ref in ready if (event := self._event(ref)) is not None]

    def _event(self, ref: Any) -> Event | None:
        from ray.exceptions import RayError

        is_start = ref in self._starts
        if not is_start and ref not in self._streams:
            return None  # its worker's other shard told of the death already
        number, shard = (self._starts.pop(ref), -1) if is_start else self._streams[ref]
        try:
            # RayError is the root of what ray.get raises: ActorDiedError (process or node gone),
            # OutOfMemoryError (Ray's memory monitor killed it), ActorUnavailableError (network),
            # RayTaskError (an exception inside the actor, which ours never lets out). After any
            # of them the actor is not to be trusted.
            message = self._ray.get(ref if is_start else next(ref))
        except StopIteration:
            del self._streams[ref]
            return None
        except RayError as error:
            self.kill(number)
            return WorkerDied(number, *_cause_of_death(error))
        match message:
            case Started():
                return WorkerReady(number)
            case NotStarted(text):
                return WorkerFailedToStart(number, text)
            case Progress(candidate, done):
                return BatchStarted(number, shard, candidate, done)
            case Made(receipt):
                return ShardMade(number, receipt)
            case Failed(kind, text):
                return ShardFailed(number, shard, kind, text)
        raise AssertionError(f"a worker sent {message!r}")

    def _nodes(self) -> list[Resources]:
        self._await_head()
        nodes = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        if self._own_node not in nodes:
            raise ClusterLostError(
                "the Ray node that the driver is on is gone, and its workers with it; "
                "mend the node, then run the same command again"
            )
        return [node["Resources"] for node in nodes.values()]

    def _await_head(self) -> None:
        gone_since = time.monotonic()
        while not self._head_answers():
            if time.monotonic() >= gone_since + HEAD_PATIENCE_S:
                raise ClusterLostError(
                    f"the head of the Ray cluster ({self._head}) has not answered for "
                    f"{HEAD_PATIENCE_S:g} s; start a cluster, then run the same command again"
                )
            time.sleep(PROBE_S)

    def _head_answers(self) -> bool:
        # Asking Ray would block until the head is back, or end the process.
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S).close()
        except OSError:
            return False
        return True

    def _connect(self, runtime: RuntimeConfig) -> None:
        try:
            if runtime.ray_address is not None:
                self._ray.init(
                    address=runtime.ray_address, log_to_driver=False, logging_level=logging.ERROR
                )
                return
            cpus = _cores()
            if isinstance(runtime.workers, int):
                # More workers than cores is the user's choice, and Ray must not queue them.
                cpus = max(cpus, runtime.workers)
            self._ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        # ray.init has no exception type of its own: ConnectionError, RuntimeError, ValueError
        # and others, all for "no cluster there" or "could not start one".
        except Exception as error:
            where = runtime.ray_address or "on this machine"
            raise MfsynthError(
                f"Ray does not start ({where}): {' '.join(str(error).split())[:200]}; "
                "see runtime.ray_address, and RAY_AUTH_MODE if the cluster asks for a token"
            ) from error


class _Actor:
    """The thin shell of a worker in its process. Failures are values; only death is an error."""

    def __init__(self, open_worker: OpenWorker, config: RunConfig, device: str) -> None:
        self._open = open_worker
        self._config = config
        self._device = device
        self._worker: ShardMaker | None = None
        self._gpu_memory = GpuMemory(config.name)

    def start(self) -> Started | NotStarted:
        """Load the model. Not in the constructor, whose errors Ray turns into deaths."""
        try:
            self._worker = self._open(self._config, self._device)
        except MfsynthError as error:
            return NotStarted(str(error))
        # Exception: loading a model can raise anything; the user gets its last line.
        except Exception as error:
            return NotStarted(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return Started()

    def make_shard(
        self, assignment: Assignment, candidates: Sequence[Candidate]
    ) -> Iterator[Message]:
        assert self._worker is not None
        for message in self._worker.make_shard(assignment, candidates):
            self._gpu_memory.report()
            yield message


def open_shard_worker(config: RunConfig, device: str) -> ShardMaker:
    """The worker of every real run; imported where it is needed, in the worker's process."""
    from mfsynth.models import load_pipeline
    from mfsynth.runs.worker import ShardWorker

    return ShardWorker(config, load_pipeline(config.model, device, config.runtime))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quieten_ray() -> None:
    """Ray reads these when it is imported. The user's own values stay."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # The driver says itself, in one line, when a worker dies; Ray says it in twelve.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed")
    logging.getLogger("ray").setLevel(logging.ERROR)


def _cause_of_death(error: Exception) -> tuple[str, bool]:
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
