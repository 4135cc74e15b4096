"""The workers of a run as Ray actors: start, assign, kill, and hear what they say.

Ray's own retries are off: it would repeat a task that kills its worker, on the same batch, and
tell nobody. What is retried, where and how often is the supervisor's to decide.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
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

if TYPE_CHECKING:
    import ray

# On a CPU more threads than this a worker bring little at the sizes of small models.
THREADS_PER_WORKER = 2
CPU_BATCH_SIZE = 16
# Halved until it fits, so it may be generous.
CUDA_BATCH_SIZE = 32
# Pixels never pass through Ray's object store: the smallest one it allows is plenty.
OBJECT_STORE_BYTES = 80 * 2**20


class ShardMaker(Protocol):
    """What a worker process holds; `mfsynth.runs.worker.ShardWorker` is the one."""

    def make_shard(
        self, assignment: Assignment, candidates: Sequence[Candidate]
    ) -> Iterator[Message]:
        """Yield `Progress` before every batch; last, one `Made` or one `Failed`."""


OpenWorker = Callable[[RunConfig, str], ShardMaker]


@dataclass(frozen=True, slots=True)
class Crewing:
    """How many workers there are and what each one has.

    Attributes:
        workers: Workers alive at a time.
        device: `cpu` or `cuda`; a `cuda` worker has one GPU for itself.
        threads: CPU cores, and threads, a worker.
        batch_size: Candidates made together, to begin with.
    """

    workers: int
    device: str
    threads: int
    batch_size: int

    @classmethod
    def of(cls, runtime: RuntimeConfig, *, cpus: int, gpus: int) -> Crewing:
        """Fill in what the configuration leaves to `auto`.

        Raises:
            MfsynthError: `cuda` is asked for and there is no GPU.
        """
        device = runtime.device
        if device == "auto":
            device = "cuda" if gpus else "cpu"
        if device == "cuda" and not gpus:
            raise MfsynthError(
                "runtime.device: cuda, but Ray sees no GPU; set it to cpu, or mend the driver"
            )
        on_gpu = device == "cuda"
        workers = gpus if on_gpu else max(1, cpus // THREADS_PER_WORKER)
        if runtime.workers != "auto":
            workers = runtime.workers
        batch_size = CUDA_BATCH_SIZE if on_gpu else CPU_BATCH_SIZE
        if runtime.batch_size != "auto":
            batch_size = runtime.batch_size
        if runtime.ray_address is None:
            threads = max(1, cpus // workers)
        else:
            # An even share of a cluster may be more than any one of its machines has.
            threads = 1 if on_gpu else THREADS_PER_WORKER
        return cls(workers, device, threads, batch_size)


class Crew:
    """Workers by the supervisor's numbers. A context manager: leaving it ends them all.

    Args:
        config: The run.
        open_worker: Makes the worker inside its process; pickled by reference or by value.

    Raises:
        MfsynthError: Ray cannot be reached, or lacks what the configuration asks for.
    """

    def __init__(self, config: RunConfig, open_worker: OpenWorker) -> None:
        _quieten_ray()
        import ray

        self._ray = ray
        self._config = config
        self._open_worker = open_worker
        self._connect(config.runtime)
        resources = ray.cluster_resources()
        try:
            self.crewing = Crewing.of(
                config.runtime,
                cpus=max(1, int(resources.get("CPU", 1))),
                gpus=int(resources.get("GPU", 0)),
            )
        except MfsynthError:
            ray.shutdown()
            raise
        self._actors: dict[int, Any] = {}
        self._starts: dict[ray.ObjectRef, int] = {}
        self._streams: dict[ray.ObjectRefGenerator, int] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in list(self._actors):
            self.kill(number)
        self._ray.shutdown()

    def start(self, number: int) -> None:
        """Begin to start a worker; `poll` tells when it is ready, or why it is not."""
        crewing = self.crewing
        actor = (
            self._ray.remote(_Actor)
            .options(
                # Ray also makes it the number of OpenMP threads (and so torch's) of the process.
                num_cpus=crewing.threads,
                num_gpus=1 if crewing.device == "cuda" else 0,
                max_restarts=0,
                max_task_retries=0,
            )
            .remote(self._open_worker, self._config, crewing.device)
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
        self._streams[stream] = number

    def kill(self, number: int) -> None:
        """End a worker at once; nothing more is heard of it."""
        actor = self._actors.pop(number, None)
        if actor is not None:
            self._ray.kill(actor)
        self._starts = {ref: n for ref, n in self._starts.items() if n != number}
        self._streams = {stream: n for stream, n in self._streams.items() if n != number}

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
        number = self._starts.pop(ref) if is_start else self._streams[ref]
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
            return WorkerDied(number, _cause_of_death(error))
        match message:
            case Started():
                return WorkerReady(number)
            case NotStarted(text):
                return WorkerFailedToStart(number, text)
            case Progress(candidate, done):
                return BatchStarted(number, candidate, done)
            case Made(receipt):
                return ShardMade(number, receipt)
            case Failed(kind, text):
                return ShardFailed(number, kind, text)
        raise AssertionError(f"a worker sent {message!r}")

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
                "see runtime.ray_address"
            ) from error


class _Actor:
    """The thin shell of a worker in its process. Failures are values; only death is an error."""

    def __init__(self, open_worker: OpenWorker, config: RunConfig, device: str) -> None:
        self._open = open_worker
        self._config = config
        self._device = device
        self._worker: ShardMaker | None = None

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
        yield from self._worker.make_shard(assignment, candidates)


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


def _cause_of_death(error: Exception) -> str:
    text = str(error)
    if match := re.search(r"Worker exit type: (\w+)", text):
        return f"its worker died ({match[1].lower().replace('_', ' ')})"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # A traceback ends with the exception itself.
    return f"its worker died: {lines[-1][:300] if lines else type(error).__name__}"
