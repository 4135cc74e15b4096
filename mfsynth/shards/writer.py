"""A shard while it is made: staged on the local disk, verified, then uploaded.

The life of a shard:

    staged      in a temporary folder of the worker; a kill loses it and nothing else
    closed      complete, reopened and found sound; still local
    uploaded    under keys that no other attempt has; no reader looks there yet
    committed   its receipt is in `_commits/` (`mfsynth.shards.commits`); now it exists
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from mfsynth.errors import MfsynthError
from mfsynth.geometry import Intrinsics
from mfsynth.shards import codecs, layout, tables
from mfsynth.shards.columns import ADDED, PARTED, PHASH, PlacedReject, PlacedSample
from mfsynth.shards.integrity import shard_problems
from mfsynth.shards.labels import Moment
from mfsynth.shards.marks import mark_jpeg, mark_png
from mfsynth.shards.perceptual_hash import perceptual_hash
from mfsynth.shards.quantisation import FORMULAS, DepthEncoding
from mfsynth.shards.records import (
    Quarantine,
    Receipt,
    Record,
    Reject,
    Sample,
    StoredObject,
    depth_source_type,
)
from mfsynth.shards.tar import TarWriter
from mfsynth.storage import locks
from mfsynth.storage.digests import sha256_of_bytes, sha256_of_file
from mfsynth.storage.errors import StoreError, StoreFullError
from mfsynth.storage.store import ObjectStore

_FOLDER_PREFIX = "mfsynth-spool-"
_MOMENT = [each.name for each in fields(Moment)]


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """A sample, the bytes of its members, and the perceptual hash of its image."""

    sample: Sample
    encoding: DepthEncoding
    rgb: bytes
    depth: bytes
    json: bytes
    phash: int
    sensor_unit: float | None = None
    beside: Mapping[str, bytes] = field(default_factory=dict)

    def member(self, name: str) -> bytes | None:
        """One of its members, those `beside` the three of every sample included; None without."""
        own = {"rgb": self.rgb, "depth": self.depth, "json": self.json}
        return own.get(name) or self.beside.get(name)


@dataclass(frozen=True, slots=True)
class EncodedReject:
    """A rejected candidate, and the pair that it would have been."""

    reject: Reject
    pair: EncodedSample


def encode_sample(sample: Sample, declared: tables.Declared = tables.PLAIN) -> EncodedSample:
    """Compress a sample. Pure, and most of a shard's CPU work: run it on a thread pool.

    Args:
        sample: The pair.
        declared: What its run has.
    """
    codes, encoding = codecs.encode_depth(sample.depth)
    depth = mark_png(codes, depth_source_type(sample.mode, sample.digital_source_type))
    rgb = sample.jpeg or codecs.encode_jpeg(sample.rgb)
    if sample.jpeg is None and sample.digital_source_type:
        rgb = mark_jpeg(rgb, sample.digital_source_type)
    phash = perceptual_hash(sample.rgb)
    beside, unit = {}, None
    if sample.sensor is not None:
        beside["sensor"], unit = codecs.encode_metres(sample.sensor)
    elif (file := sample.sensor_file) is not None and "sensor_offset" in declared.added:
        beside["sensor"], unit = file.png, file.unit_per_code
    for name, member in declared.members.items():
        if (data := sample.labels.files.get(member.suffix)) is not None:
            beside[name] = data
    siblings = {"rgb": rgb, "depth": depth, **beside}
    description = json.dumps(
        describe(sample, encoding, phash, siblings, declared, unit),
        ensure_ascii=False,
        separators=(",", ":"),
        allow_nan=False,
    )
    return EncodedSample(sample, encoding, rgb, depth, description.encode(), phash, unit, beside)


def describe(
    sample: Sample,
    encoding: DepthEncoding,
    phash: int,
    siblings: Mapping[str, bytes],
    declared: tables.Declared,
    sensor_unit: float | None = None,
) -> dict[str, Any]:
    """The sample's `KEY.json`: all that a stranger needs to decode and place the pair.

    Args:
        sample: The pair.
        encoding: Of its depth.
        phash: Of its image.
        siblings: The other members, by their names: their hashes hold them together.
        declared: What its run has.
        sensor_unit: Metres a code of its sensor's depth; None without.
    """
    added = {
        "camera": sample.camera,
        "estimated_intrinsics": _as_json(sample.estimated_intrinsics),
        "metres_per_unit": sample.metres_per_unit,
        "metres_per_unit_error": sample.metres_per_unit_error,
        "camera_to_world": sample.labels.camera_to_world,
        "objects": [one.name for one in sample.labels.objects],
        PARTED: sample.parted,
        **dict.fromkeys(_MOMENT),
        **({} if sample.labels.moment is None else asdict(sample.labels.moment)),
    }
    # One camera has four columns.
    names = {"estimated_intrinsics" if n.startswith("estimated_") else n for n in declared.added}
    height, width = sample.depth.shape
    return {
        "format_version": declared.format_version,
        **_if_declared(asdict(sample.ref), declared),
        "width": width,
        "height": height,
        "intrinsics": _as_json(sample.intrinsics),
        "intrinsics_source": sample.intrinsics_source,
        **{name: value for name, value in added.items() if name in names},
        "camera_axes": "x right, y down, z forward",
        "pixel_centres": "integer",
        "depth": {
            "kind": sample.depth_kind,
            "measure": "z, not ray distance",
            "encoding": encoding.scale,
            "formula": FORMULAS[encoding.scale],
            "unit_per_code": encoding.unit_per_code,
            "near": encoding.near,
            "far": encoding.far,
        },
        **(
            {"sensor": _sensor_as_json(sample, sensor_unit, declared)}
            if "sensor_offset" in declared.added
            else {}
        ),
        "scores": {
            name: None if math.isnan(score) else score for name, score in sample.scores.items()
        },
        "mode": sample.mode,
        "model_id": sample.model_id,
        "licence": sample.licence,
        **_if_declared({"source_licence": sample.source_licence}, declared),
        "digital_source_type": sample.digital_source_type,
        **_if_declared({PHASH: phash}, declared),
        "sha256": {
            layout.member_name("", member)[1:]: sha256_of_bytes(data)
            for member, data in siblings.items()
        },
    }


def _if_declared(values: Mapping[str, Any], declared: tables.Declared) -> dict[str, Any]:
    """Fields without those that are of other runs."""
    return {k: v for k, v in values.items() if k not in ADDED or k in declared.added}


def _sensor_as_json(
    sample: Sample, unit: float | None, declared: tables.Declared
) -> dict[str, Any] | None:
    if unit is None:
        return None
    preset = {"preset": sample.sensor_preset} if "sensor" in declared.added else {}
    return {**preset, "unit_per_code": unit}


def _as_json(camera: Intrinsics | None) -> dict[str, float] | None:
    return None if camera is None else asdict(camera)


class ShardSpool:
    """Collects the candidates of one shard on the local disk. Not thread-safe.

        with ShardSpool(run=..., shard=..., attempt=..., ...) as spool:
            for record in records:          # every candidate once, pixels in rising order
                spool.add(record)
            spool.close()
            receipt = spool.upload(store, seconds=..., worker=...)

    Leaving the context removes the folder, whatever happened; a killed worker's is removed by
    the next spool on the machine.

    Args:
        run: Id of the run.
        shard: Number of the shard.
        attempt: `layout.new_attempt()`; shared with no other attempt.
        first_candidate: First candidate of the shard.
        candidates: Number of candidates of the shard.
        declared: What the run's tables have columns for; it fixes their schema.
        run_sha256: Of `run.json`.
        folder: Where to make the temporary folder; None = the system's (`TMPDIR`).
    """

    def __init__(
        self,
        *,
        run: str,
        shard: int,
        attempt: str,
        first_candidate: int,
        candidates: int,
        declared: tables.Declared,
        run_sha256: str,
        folder: Path | None = None,
    ) -> None:
        self._run = run
        self._shard = shard
        self._attempt = attempt
        self._range = range(first_candidate, first_candidate + candidates)
        self._declared = declared
        self._run_sha256 = run_sha256
        self._parent = folder
        self._kinds = [*layout.OBJECT_KINDS]
        if declared.keeps_rejects:
            self._kinds.append(layout.REJECTED_TAR)
        self._rows: list[dict[str, Any]] = []
        self._others: list[PlacedReject] = []
        # Candidates that lie in each tar.
        self._placed: dict[str, list[int]] = {"tar": [], layout.REJECTED_TAR: []}
        self._seen: set[int] = set()
        self._objects: dict[str, StoredObject] | None = None

    def __enter__(self) -> ShardSpool:
        with _on_disk(self._parent):
            parent = self._parent or Path(tempfile.gettempdir())
            locks.remove_abandoned(parent, _FOLDER_PREFIX)
            self._folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=parent))
            self._lock = locks.hold(self._folder)
            self._tar_files = {
                kind: self._path(kind).open("wb") for kind in self._kinds if kind in self._placed
            }
        self._tars = {kind: TarWriter(file) for kind, file in self._tar_files.items()}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing flushes, which fails again on a full disk and must not hide the first error.
        for file in self._tar_files.values():
            with contextlib.suppress(OSError):
                file.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)

    def add(self, record: Record | EncodedSample | EncodedReject) -> None:
        """Stage a candidate's outcome.

        Raises:
            ValueError: The candidate is not of this shard, was added before, has pixels and is out
                of order (the bytes of a tar must not depend on timing), or has an undeclared score,
                or other slots than were declared, or is a reject with pixels and none are kept.
            StoreFullError: The local disk is full.
        """
        if isinstance(record, Sample):
            record = encode_sample(record, self._declared)
        if isinstance(record, EncodedSample):
            self._admit(record.sample)
            self._rows.append(tables.index_row(self._place(record, "tar"), self._declared))
            return
        if isinstance(record, EncodedReject):
            self._admit(record.reject)
            placed = self._place(record.pair, layout.REJECTED_TAR)
            self._others.append(PlacedReject(record.reject, self._shard, placed))
        else:
            self._admit(record)
            self._others.append(PlacedReject(record, self._shard))

    def _place(self, pair: EncodedSample, kind: str) -> PlacedSample:
        name, candidate = pair.sample.ref.sample_id, pair.sample.ref.candidate
        before = self._placed[kind]
        if kind not in self._tars:
            raise ValueError(f"{name}: the run keeps no pixels of rejects")
        if before and before[-1] > candidate:
            raise ValueError(f"{name}: samples must come in the order of candidates")
        tar = self._tars[kind]
        with _on_disk(self._folder):
            spans = {
                member: tar.add(layout.member_name(name, member), data)
                for member in self._declared.members
                if (data := pair.member(member)) is not None
            }
        before.append(candidate)
        row = len(before) - 1
        return PlacedSample(
            pair.sample, pair.encoding, self._shard, row, spans, pair.phash, pair.sensor_unit
        )

    def close(self) -> None:
        """Finish the files, read them back and compare them with what was added.

        Raises:
            ValueError: A candidate of the shard was never added.
            StoreFullError: The local disk is full.
            MfsynthError: It did not keep what was written.
        """
        if missing := sorted({*self._range} - self._seen):
            raise ValueError(f"shard {self._shard}: candidate {missing[0]} has no outcome")
        others = sorted(self._others, key=lambda other: other.record.ref.candidate)
        with _on_disk(self._folder):
            for kind, file in self._tar_files.items():
                self._tars[kind].finish()
                file.flush()
                os.fsync(file.fileno())
                file.close()
            index = tables.index_schema(self._declared)
            tables.write_table(self._path("index"), self._rows, index)
            tables.write_table(
                self._path("rejects"),
                [tables.reject_row(other, self._declared) for other in others],
                tables.rejects_schema(self._declared),
            )
            self._objects = {
                kind: StoredObject(
                    layout.object_key(kind, self._run, self._shard, self._attempt),
                    self._path(kind).stat().st_size,
                    sha256_of_file(self._path(kind)),
                )
                for kind in self._kinds
            }
        receipt = self._receipt(self._objects, {}, "")
        paths = {kind: self._path(kind) for kind in self._kinds}
        if problems := shard_problems(receipt, paths, decode=False):
            raise MfsynthError(
                f"the spool folder {self._folder} did not keep shard {self._shard}: {problems[0]}; "
                "set TMPDIR to a sound disk"
            )

    def upload(self, store: ObjectStore, *, seconds: Mapping[str, float], worker: str) -> Receipt:
        """Copy the closed shard to the store and return the receipt to commit.

        Visible: to nobody; readers trust commits only. Idempotent: the keys belong to this
        attempt, so a retry after a lost acknowledgement writes the same bytes again.

        Args:
            store: Where to.
            seconds: Wall seconds by phase, with `total`.
            worker: Where the shard was made, for people.

        Raises:
            StoreError: The store failed, or holds less than was sent.
        """
        if self._objects is None:
            raise ValueError("close() the spool before upload()")
        for kind, stored in self._objects.items():
            store.put_file(self._path(kind), stored.key)
            if (size := store.size(stored.key)) != stored.size:
                raise StoreError(
                    f"{store.url}/{stored.key}: {stored.size} bytes were sent, {size or 0} arrived"
                )
        return self._receipt(self._objects, seconds, worker)

    def _admit(self, record: Sample | Reject | Quarantine) -> None:
        name, candidate = record.ref.sample_id, record.ref.candidate
        if candidate not in self._range:
            raise ValueError(f"{name}: candidate {candidate} is not of shard {self._shard}")
        if name != layout.sample_id(self._run, candidate):
            raise ValueError(f"{name}: is not the id of candidate {candidate}")
        if candidate in self._seen:
            raise ValueError(f"{name}: was added before")
        scores = {} if isinstance(record, Quarantine) else record.scores
        if undeclared := sorted({*scores} - {*self._declared.scores}):
            raise ValueError(f"{name}: the score {undeclared[0]!r} was not declared")
        if {*record.ref.slots} != {*self._declared.slots}:
            raise ValueError(f"{name}: its slots are not those that were declared")
        self._seen.add(candidate)

    def _path(self, kind: str) -> Path:
        return self._folder / kind

    def _receipt(
        self, objects: Mapping[str, StoredObject], seconds: Mapping[str, float], worker: str
    ) -> Receipt:
        others = [other.record for other in self._others]
        rejects = [record for record in others if isinstance(record, Reject)]
        return Receipt(
            run=self._run,
            run_sha256=self._run_sha256,
            shard=self._shard,
            attempt=self._attempt,
            first_candidate=self._range.start,
            candidates=len(self._range),
            accepted=len(self._rows),
            rejected=len(rejects),
            quarantined=len(others) - len(rejects),
            objects=dict(objects),
            seconds={phase: round(value, 4) for phase, value in seconds.items()},
            worker=worker,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            reasons=dict(Counter(reason for record in rejects for reason in record.reasons)),
        )


@contextlib.contextmanager
def _on_disk(folder: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = folder or tempfile.gettempdir()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(
                f"no space left in the spool folder {where}; free some, or set TMPDIR to a "
                "larger disk, and run the same command again"
            ) from error
        raise MfsynthError(
            f"can't write to the spool folder {where}: {error.strerror or error}; "
            "set TMPDIR to a folder that can be written"
        ) from error
