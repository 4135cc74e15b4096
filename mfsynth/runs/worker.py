"""Makes whole shards: prompts in, a receipt out, pixels nowhere but in between."""

from __future__ import annotations

import gc
import random
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mfsynth.checks import CheckedPair, open_checks, run_checks
from mfsynth.config import RunConfig
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind
from mfsynth.prompts import derive_seed
from mfsynth.runs.plan import Candidate
from mfsynth.runs.protocol import Assignment, Failed, FailureCause, Made, Message, Progress
from mfsynth.runs.thumbnails import pair_thumbnail
from mfsynth.shards.records import Quarantine, Receipt, Reject, Sample
from mfsynth.shards.writer import EncodedSample, ShardSpool, encode_sample
from mfsynth.storage.errors import StoreError, StoreFullError, StoreRefusedError
from mfsynth.storage.store import ObjectStore

# At 512x512 all checks and the encoding of a pair take one core some 40 ms: two threads keep well
# ahead of a model that makes 20 pairs a second.
CHECKING_THREADS = 2
# Batches that wait to be checked and written. Two keep the writer busy; more would only hold
# images in memory when the writer is the slower one.
MAX_WAITING_BATCHES = 2
# Prompts are encoded ahead of their batches, so that the text encoder need be on the GPU only once
# in a while. 64 take about a GB at the size of the released model.
ENCODED_AHEAD = 64
# A shard costs minutes of a GPU and its upload seconds, so the upload is worth some patience.
UPLOAD_ATTEMPTS = 5


@dataclass(slots=True)
class PhaseClock:
    """Wall seconds by phase, summed over the threads that share one."""

    seconds: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    began: float = field(default_factory=time.perf_counter)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time inside the `with` to `phase`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - began
            with self.lock:
                self.seconds[phase] = self.seconds.get(phase, 0.0) + elapsed

    def total(self) -> dict[str, float]:
        """All phases, and `total` since the clock was made; phases overlap."""
        seconds = {**self.seconds, "total": time.perf_counter() - self.began}
        return {phase: round(value, 3) for phase, value in seconds.items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """What the model made: uint8 (B, H, W, 3), float32 (B, H, W), the same or None."""

    candidates: Sequence[Candidate]
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    i2d_depth: NDArray[np.float32] | None


class Pairs(Protocol):
    """What a pipeline gives: `rgb` uint8 (B, H, W, 3), `depth` float32 (B, H, W), 0 = invalid."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]


class Pipeline(Protocol):
    """The part of `mfsynth.models.ModalityForcingPipeline` that a worker needs."""

    def encode_prompts(self, prompts: Sequence[str]) -> Any:
        """Encode prompts; rows of the result go into `prompt_embeds`."""

    def __call__(
        self,
        *,
        prompt_embeds: Any,
        seeds: Sequence[int],
        mode: str,
        image: NDArray[np.uint8] | None = None,
        num_inference_steps: int,
        guidance_scale: float,
        **sampling: Any,
    ) -> Pairs:
        """Sample a batch."""


class ShardWorker:
    """A loaded model that makes shards of one run. Knows nothing of Ray.

    Two threads may call `make_shard` at a time: while one shard is checked, written and uploaded,
    the model makes the next one.

    Args:
        config: The run.
        pipeline: The model.
    """

    def __init__(self, config: RunConfig, pipeline: Pipeline) -> None:
        self._config = config
        self._store = ObjectStore.open(config.output)
        self._pipeline = pipeline
        self._checks = tuple(open_checks(config.checks).values())
        self._score_names = tuple(score.name for check in self._checks for score in check.scores)
        self._own_depth_steps = max((check.own_depth_steps for check in self._checks), default=0)
        self._host = socket.gethostname()
        self._model_turn = threading.Lock()

    def make_shard(
        self, assignment: Assignment, candidates: Sequence[Candidate]
    ) -> Iterator[Message]:
        """Make a shard and put it into the store, uncommitted.

        Args:
            assignment: The attempt.
            candidates: All candidates of the shard, quarantined ones included.

        Yields:
            `Progress` before every batch; last, one `Made` or one `Failed`.
        """
        failure: Failed | None = None
        try:
            yield from self._make(assignment, candidates)
        except MfsynthError as error:
            failure = Failed(FailureCause.STORE, str(error))
        # Exception: whatever the model or a codec raises is the supervisor's to judge.
        except Exception as error:
            failure = Failed(_cause_of(error), _one_line(error))
        if failure is not None:
            # Out here the traceback is gone, and with it the last references to its tensors.
            _free_memory()
            yield failure

    def _make(self, assignment: Assignment, candidates: Sequence[Candidate]) -> Iterator[Message]:
        clock = PhaseClock()
        todo = [c for c in candidates if c.index not in assignment.quarantined]
        waiting: deque[Future[None]] = deque()
        with (
            ShardSpool(
                run=self._config.name,
                shard=assignment.shard,
                attempt=assignment.attempt,
                first_candidate=candidates[0].index,
                candidates=len(candidates),
                score_names=self._score_names,
            ) as spool,
            _closing(ThreadPoolExecutor(CHECKING_THREADS, "checker")) as checkers,
            # One thread keeps the order of the samples, and so the bytes of the tar.
            _closing(ThreadPoolExecutor(1, "writer")) as writer,
        ):
            size = 1 if assignment.isolate else assignment.batch_size
            ahead = max(size, ENCODED_AHEAD - ENCODED_AHEAD % size)
            embeds: Any = None
            with self._model_turn:
                for at in range(0, len(todo), size):
                    yield Progress(todo[at].index, at)
                    if at % ahead == 0:
                        with clock("encode_prompts"):
                            texts = [candidate.prompt.text for candidate in todo[at : at + ahead]]
                            embeds = self._pipeline.encode_prompts(texts)
                    part = embeds[at % ahead : at % ahead + size]
                    batch = self._generate(todo[at : at + size], part, clock)
                    waiting.append(writer.submit(self._judge, batch, checkers, spool, clock))
                    while len(waiting) > (0 if assignment.isolate else MAX_WAITING_BATCHES):
                        waiting.popleft().result()
            yield Progress(None, len(todo))
            while waiting:
                waiting.popleft().result()
            for candidate in candidates:
                if (reason := assignment.quarantined.get(candidate.index)) is not None:
                    again = f"mfsynth reproduce {self._store.url} {candidate.index}"
                    spool.add(Quarantine(candidate.ref, f"{reason}; to see it: {again}"))
            with clock("write"):
                spool.close()
            yield Made(self._upload(spool, clock))

    def _generate(self, candidates: Sequence[Candidate], embeds: Any, clock: PhaseClock) -> _Batch:
        sampler = self._config.sampler
        with clock("generate"):
            made = self._pipeline(
                prompt_embeds=embeds,
                seeds=[candidate.seed for candidate in candidates],
                mode=sampler.mode,
                **sampler.pipeline_arguments(),
            )
        i2d_depth = None
        if self._own_depth_steps:
            with clock("self_agreement"):
                i2d_depth = self._pipeline(
                    prompt_embeds=embeds,
                    # Noise of its own: a second opinion from the same noise agrees too easily.
                    seeds=[derive_seed(candidate.seed, "i2d") for candidate in candidates],
                    mode="i2d",
                    image=made.rgb,
                    num_inference_steps=self._own_depth_steps,
                    guidance_scale=1.0,
                ).depth
        return _Batch(candidates, made.rgb, made.depth, i2d_depth)

    def _judge(
        self, batch: _Batch, checkers: Executor, spool: ShardSpool, clock: PhaseClock
    ) -> None:
        rows = range(len(batch.candidates))
        for record in checkers.map(partial(self._record, batch, clock), rows):
            spool.add(record)

    def _record(self, batch: _Batch, clock: PhaseClock, row: int) -> EncodedSample | Reject:
        candidate, rgb, depth = batch.candidates[row], batch.rgb[row], batch.depth[row]
        i2d_depth = None if batch.i2d_depth is None else batch.i2d_depth[row]
        with clock("check"):
            pair = CheckedPair(rgb, depth, own_depth=i2d_depth, text=candidate.prompt.text)
            verdict = run_checks(pair, self._checks)
        with clock("encode"):
            if verdict.accepted:
                return encode_sample(
                    Sample(
                        candidate.ref,
                        rgb=rgb,
                        depth=depth,
                        scores=verdict.scores,
                        mode=self._config.sampler.mode,
                        model_id=self._config.model.id,
                        depth_kind=DepthKind.SCALE_INVARIANT_Z,
                    )
                )
            keep = self._config.keep_reject_thumbnails
            return Reject(
                candidate.ref,
                scores=verdict.scores,
                # The score's name alone can be counted; its value is in `scores`.
                reasons=tuple(failure.score for failure in verdict.failures),
                thumbnail_jpeg=pair_thumbnail(rgb, depth) if keep else None,
            )

    def _upload(self, spool: ShardSpool, clock: PhaseClock) -> Receipt:
        for attempt in range(1, UPLOAD_ATTEMPTS + 1):
            try:
                with clock("upload"):
                    receipt = spool.upload(self._store, seconds={}, worker=self._host)
                return replace(receipt, seconds=clock.total())
            except (StoreFullError, StoreRefusedError):
                raise
            except StoreError:
                if attempt == UPLOAD_ATTEMPTS:
                    raise
                time.sleep(2.0 ** (attempt - 1) * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable: the last attempt returns or raises")


@contextmanager
def _closing(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    try:
        yield pool
    finally:
        # After an error, what still waits would be written into a spool that is thrown away.
        pool.shutdown(cancel_futures=True)


def _cause_of(error: Exception) -> FailureCause:
    # torch.OutOfMemoryError, cuBLAS and the CPU allocator all raise RuntimeErrors; their texts
    # are what they have in common.
    signs = ("out of memory", "can't allocate memory", "alloc_failed")
    text = str(error).lower()
    memory = isinstance(error, RuntimeError) and any(sign in text for sign in signs)
    if memory or isinstance(error, MemoryError):
        return FailureCause.OUT_OF_MEMORY
    return FailureCause.ERROR


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _free_memory() -> None:
    gc.collect()
    # A worker without torch has nothing on a GPU.
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
