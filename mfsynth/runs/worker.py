"""Makes whole shards: prompts in, a receipt out, pixels nowhere but in between."""

from __future__ import annotations

import gc
import logging
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from mfsynth.checks import CheckedPair, run_checks
from mfsynth.checks.registry import load_checks
from mfsynth.checks.validity import malformed_pixels
from mfsynth.config import RunConfig
from mfsynth.formatting import shell_line
from mfsynth.geometry import DepthEstimate, IntrinsicsSource
from mfsynth.models.vocabulary import Vocabulary
from mfsynth.runs.devices import Device
from mfsynth.runs.loading import Loader
from mfsynth.runs.making import (
    Batch,
    Pipeline,
    mode_of,
    with_own_depth,
    with_own_estimates,
)
from mfsynth.runs.metres import NO_SCALE, Measured, measured
from mfsynth.runs.phases import PhaseClock
from mfsynth.runs.plan import Candidate
from mfsynth.runs.protocol import (
    TO_SEE_IT,
    Assignment,
    Failed,
    FailureCause,
    Made,
    Message,
    Progress,
    Waiting,
)
from mfsynth.runs.provenance import Provenance, View
from mfsynth.runs.recording import RecordQueue
from mfsynth.runs.retries import backoff
from mfsynth.runs.sensing import sensed
from mfsynth.runs.settings import own_depth_steps
from mfsynth.runs.thumbnails import pair_thumbnail
from mfsynth.runs.understanding import understanding
from mfsynth.shards import layout
from mfsynth.shards.perceptual_hash import perceptual_hash
from mfsynth.shards.records import Quarantine, Receipt, Reject, Sample
from mfsynth.shards.run_manifest import read_run, run_sha256
from mfsynth.shards.tables import Declared
from mfsynth.shards.words import UNKNOWN_LICENCE, licence_of_models
from mfsynth.shards.writer import EncodedReject, EncodedSample, ShardSpool, encode_sample
from mfsynth.storage.errors import StoreError, StoreRefusedError
from mfsynth.storage.store import ObjectStore

if TYPE_CHECKING:
    from mfsynth.models.estimators.base import Estimator

_log = logging.getLogger(__name__)

# Batches that wait to be checked and written. Two keep the writer busy; more would only hold
# images in memory when the writer is the slower one.
MAX_WAITING_BATCHES = 2
# A shard's prompts are encoded before its batches, so that the text encoder need be on the GPU only
# once a shard; of large shards so many at once, which take 3 GB of main memory at the size of the
# released model.
ENCODED_AHEAD = 256
# What is over in a few seconds is nobody's business.
QUIET_ATTEMPTS = 3


class ShardWorker:
    """A loaded model that makes shards of one run. Knows nothing of Ray.

    Two threads may call `make_shard` at a time: while one shard is checked, written and uploaded,
    the model makes the next one.

    Args:
        config: The run.
        pipeline: The model.
        warm_up: Of a compiled model: inside of it, a batch compiles what the batches of its size
            will need. Then all batches have one size, partial ones are filled up. None for a model
            that takes any batch as well.
        device: What the model runs on, for receipts.
        vocabulary: Tells what the model makes of prompts, for receipts; None where nothing does.
        estimator: Says its own of every image, for checks and for metres; None for no such opinion.
    """

    def __init__(
        self,
        config: RunConfig,
        pipeline: Pipeline,
        warm_up: Callable[[], AbstractContextManager[None]] | None = None,
        *,
        device: Device | None = None,
        vocabulary: Vocabulary | None = None,
        estimator: Estimator | None = None,
    ) -> None:
        self._config = config
        self._store = ObjectStore.open(config.output)
        self._pipeline = pipeline
        self._run_sha256 = run_sha256(self._store)
        manifest = read_run(self._store)
        self._declared = Declared.by(
            (column["name"] for column in manifest.columns),
            manifest.format_version,
            (column["name"] for column in manifest.reject_columns),
        )
        self._loader = Loader(config)
        self._sampler = self._loader.sampler
        licence = licence_of_models(manifest) or UNKNOWN_LICENCE
        self._provenance = Provenance.of(config, licence, self._loader.source)
        self._warm_up = warm_up
        self._warm_sizes: set[int] = set()
        self._device = device or Device()
        self._vocabulary = vocabulary
        self._estimator = estimator
        self._checks = tuple(load_checks(config.checks).values())
        self._own_depth_steps = own_depth_steps(config)
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
            `Progress` before every batch, `Waiting` while it can't be written; last, one `Made` or
            one `Failed`.
        """
        failure: Failed | None = None
        try:
            yield from self._make(assignment, candidates)
        except StoreError as error:
            refused = isinstance(error, StoreRefusedError)
            failure = Failed(FailureCause.STORE, str(error), may_pass=not refused)
        # Exception: whatever the model, a check or a codec raises is the supervisor's to judge.
        except Exception as error:
            failure = Failed(_cause_of(error), _one_line(error))
            _log.exception("shard %d can't be made", assignment.shard)
        if failure is not None:
            # Out here the traceback is gone, and with it the last references to its tensors.
            _free_memory()
            yield failure

    def _make(self, assignment: Assignment, candidates: Sequence[Candidate]) -> Iterator[Message]:
        clock = PhaseClock()
        todo = [c for c in candidates if c.index not in assignment.quarantined]
        size = 1 if assignment.isolate else assignment.batch_size
        ahead = max(size, ENCODED_AHEAD - ENCODED_AHEAD % size)
        waiting = 0 if assignment.isolate else MAX_WAITING_BATCHES
        with (
            ShardSpool(
                run=layout.run_of(candidates[0].sample_id),
                shard=assignment.shard,
                attempt=assignment.attempt,
                first_candidate=candidates[0].index,
                candidates=len(candidates),
                declared=self._declared,
                run_sha256=self._run_sha256,
            ) as spool,
            RecordQueue(partial(self._record, assignment, clock), spool) as records,
        ):
            embeds: Any = None
            lost: dict[int, str] = {}
            refused: dict[int, str] = {}
            with self._model_turn:
                batches = self._loader.batches(todo, size)
                for at in range(0, len(todo), size):
                    yield Progress(todo[at].index, at)
                    if at % ahead == 0:
                        embeds = self._encode(todo[at : at + ahead], size, clock)
                    part = embeds[at % ahead : at % ahead + size]
                    with clock("load"):
                        loaded = next(batches)
                    lost |= loaded.lost
                    refused |= loaded.refused
                    if loaded.rows:
                        batch = self._sample(loaded.candidates, part, clock)
                        records.put(batch.rows(loaded.rows))
                    records.wait(waiting)
            yield Progress(None, len(todo))
            records.wait(0)
            self._loader.require_there(todo, lost)
            quarantined = {**assignment.quarantined, **lost, **refused}
            for candidate in candidates:
                if (reason := quarantined.get(candidate.index)) is not None:
                    spool.add(self._quarantine(candidate, reason))
            with clock("write"):
                spool.close()
            yield from self._upload(spool, clock, candidates)

    def _encode(self, candidates: Sequence[Candidate], size: int, clock: PhaseClock) -> Any:
        if self._warm_up is not None:
            candidates = _filled(candidates, -(-len(candidates) // size) * size)
        with clock("encode_prompts"):
            texts = [candidate.item.text for candidate in candidates]
            return self._pipeline.encode_prompts(texts, size)

    def _sample(self, candidates: Sequence[Candidate], embeds: Any, clock: PhaseClock) -> Batch:
        size = len(embeds)
        whole = _filled(candidates, size)
        if self._warm_up is not None and size not in self._warm_sizes:
            with clock("compile"), self._warm_up():
                self._sample_whole(whole, embeds, PhaseClock())
            self._warm_sizes.add(size)
        batch = self._sample_whole(whole, embeds, clock).rows(range(len(candidates)))
        if self._estimator is None:
            return batch
        with clock("estimate"):
            return replace(batch, estimates=self._estimates(self._estimator, batch))

    def _estimates(self, estimator: Estimator, batch: Batch) -> Sequence[DepthEstimate]:
        assumed = self._config.camera
        views = [
            View.of(candidate.item, assumed, rgb.shape).intrinsics
            for candidate, rgb in zip(batch.candidates, batch.rgb, strict=True)
        ]
        if isinstance(batch.rgb, np.ndarray):
            return estimator(batch.rgb, views)
        # Images of a source have sizes of their own.
        pairs = zip(batch.rgb, views, strict=True)
        return [one for rgb, view in pairs for one in estimator(rgb[None], [view])]

    def _sample_whole(
        self, candidates: Sequence[Candidate], embeds: Any, clock: PhaseClock
    ) -> Batch:
        pipeline, sampler, steps = self._pipeline, self._sampler, self._own_depth_steps
        with clock("generate"):
            batch = mode_of(self._config)(pipeline, sampler, candidates, embeds)
        if not steps:
            return batch
        if sampler.mode == "d2i":
            with clock("estimate"):
                return with_own_estimates(pipeline, batch, embeds, steps, sampler)
        with clock("self_agreement"):
            return with_own_depth(pipeline, batch, embeds, steps)

    def _record(
        self, assignment: Assignment, clock: PhaseClock, batch: Batch, row: int
    ) -> EncodedSample | EncodedReject | Reject:
        candidate, rgb, made = batch.candidates[row], batch.rgb[row], batch.depth[row]
        item, kind = candidate.item, batch.depth_kinds[row]
        estimate = None if batch.estimates is None else batch.estimates[row]
        view = View.of(item, self._config.camera, rgb.shape)
        with clock("check"):
            metres, guided = self._config.metres_per_unit, self._config.completion is not None
            found = measured(made, kind, metres, estimate, item, guided=guided)
            said = found or Measured(made, kind)
            shown = CheckedPair(
                rgb,
                said.depth,
                view.intrinsics,
                joint_depth=None if batch.joint_depth is None else batch.joint_depth[row],
                estimate=estimate,
                text=item.text,
                slots=item.slots,
                mask=item.labels.mask,
                names=item.labels.names,
            )
            verdict = run_checks(shown, self._checks)
        # The score's name alone can be counted; its value is in `scores`.
        # Once, however many limits it missed.
        reasons = [*dict.fromkeys(failure.score for failure in verdict.failures)]
        if found is None:
            reasons.append(NO_SCALE)
        with clock("encode"):
            keep = self._config.rejects_kept
            is_whole = not malformed_pixels(said.depth)
            kept = assignment.keep_rejected and is_whole
            pair = None
            # Without its scale a pair can't come back into a metric data set by other limits.
            if not reasons or kept or (keep == "all" and is_whole and found is not None):
                seen = None if estimate is None else estimate.intrinsics
                estimated = None if seen is None else IntrinsicsSource.ESTIMATED
                sensor, twin = self._provenance.sensor(item), self._config.sensor
                if twin is not None:
                    camera = view.intrinsics or seen
                    sensor = sensed(twin, said, rgb, camera, candidate.own_seed)
                handed = self._provenance.sensor_file(item)
                preset = None if handed is None else handed.preset
                if twin is not None and sensor is not None:
                    preset = twin.preset
                pair = encode_sample(
                    Sample(
                        candidate.ref,
                        rgb=rgb,
                        depth=said.depth,
                        scores=verdict.scores,
                        mode=self._config.sampler.mode,
                        model_id=self._config.model.id,
                        depth_kind=said.kind,
                        licence=self._provenance.licence(item),
                        source_licence=self._provenance.source_licence(item),
                        intrinsics=view.intrinsics or seen,
                        intrinsics_source=view.source or estimated,
                        camera=view.preset,
                        digital_source_type=self._provenance.source_type(item),
                        jpeg=self._provenance.jpeg(item),
                        estimated_intrinsics=seen,
                        metres_per_unit=said.metres_per_unit,
                        metres_per_unit_error=said.error,
                        sensor=sensor,
                        sensor_preset=preset,
                        sensor_file=handed,
                        labels=item.labels,
                        parted=verdict.parted,
                    ),
                    self._declared,
                )
                if not reasons or kept:
                    return pair
            reject = Reject(
                candidate.ref,
                scores=verdict.scores,
                reasons=tuple(reasons),
                thumbnail_jpeg=None
                if keep == "none"
                else pair_thumbnail(rgb, said.depth, self._provenance.thumbnail_type),
                phash=perceptual_hash(rgb),
                parted=verdict.parted,
            )
            return reject if pair is None else EncodedReject(reject, pair)

    def _quarantine(self, candidate: Candidate, reason: str) -> Quarantine:
        again = shell_line("mfsynth", "reproduce", self._store.url, candidate.index)
        return Quarantine(candidate.ref, f"{reason}{TO_SEE_IT}{again}")

    def _upload(
        self, spool: ShardSpool, clock: PhaseClock, candidates: Sequence[Candidate]
    ) -> Iterator[Message]:
        """Until the store takes it: to make a shard costs minutes of a GPU, to keep it nothing.

        How long is the supervisor's to decide.
        """
        for attempt in count(1):
            try:
                with clock("upload"):
                    receipt = spool.upload(self._store, seconds={}, worker=self._host)
            except StoreRefusedError:
                raise
            except StoreError as error:
                if attempt >= QUIET_ATTEMPTS:
                    yield Waiting(str(error))
                time.sleep(backoff(attempt, random.Random()))
            else:
                yield Made(self._completed(receipt, candidates, clock))
                return

    def _completed(
        self, receipt: Receipt, candidates: Sequence[Candidate], clock: PhaseClock
    ) -> Receipt:
        read = understanding(self._vocabulary, [candidate.item.text for candidate in candidates])
        return replace(
            receipt,
            seconds=clock.total(),
            device=self._device.kind,
            device_name=self._device.name,
            prompts_unknown=None if read is None else read.unknown,
            prompts_cut=None if read is None else read.cut,
        )


def _filled(candidates: Sequence[Candidate], size: int) -> Sequence[Candidate]:
    return [*candidates, *[candidates[-1]] * (size - len(candidates))]


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
