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
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from mfsynth.errors import MfsynthError
from mfsynth.shards import codecs, layout, tables
from mfsynth.shards.columns import PlacedReject, PlacedSample
from mfsynth.shards.integrity import sha256_of, shard_problems
from mfsynth.shards.marks import mark_jpeg, mark_png
from mfsynth.shards.records import (
    DIGITAL_SOURCE_TYPE,
    Quarantine,
    Receipt,
    Record,
    Reject,
    Sample,
    StoredObject,
)
from mfsynth.shards.tar import TarWriter
from mfsynth.storage import locks
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore

_FOLDER_PREFIX = "mfsynth-spool-"


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """A sample and the bytes of its three members."""

    sample: Sample
    encoding: codecs.DepthEncoding
    rgb: bytes
    depth: bytes
    json: bytes


def encode_sample(sample: Sample, declared: tables.Declared = tables.PLAIN) -> EncodedSample:
    """Compress a sample. Pure, and most of a shard's CPU work: run it on a thread pool.

    Args:
        sample: The pair.
        declared: What its run has.
    """
    codes, encoding = codecs.encode_depth(sample.depth)
    depth = mark_png(codes, DIGITAL_SOURCE_TYPE)
    rgb = mark_jpeg(codecs.encode_jpeg(sample.rgb), sample.digital_source_type)
    description = json.dumps(
        describe(sample, encoding, {"rgb": rgb, "depth": depth}, declared),
        ensure_ascii=False,
        separators=(",", ":"),
        allow_nan=False,
    )
    return EncodedSample(sample, encoding, rgb, depth, description.encode())


def describe(
    sample: Sample,
    encoding: codecs.DepthEncoding,
    siblings: Mapping[str, bytes],
    declared: tables.Declared,
) -> dict[str, Any]:
    """The sample's `KEY.json`: all that a stranger needs to decode and place the pair.

    Args:
        sample: The pair.
        encoding: Of its depth.
        siblings: The other members, by their names: their hashes hold them together.
        declared: What its run has.
    """
    camera = sample.intrinsics
    height, width = sample.depth.shape
    return {
        "format_version": declared.format_version,
        **asdict(sample.ref),
        "width": width,
        "height": height,
        "intrinsics": (
            {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy} if camera else None
        ),
        "intrinsics_source": sample.intrinsics_source,
        **({"camera": sample.camera} if "camera" in declared.added else {}),
        "camera_axes": "x right, y down, z forward",
        "pixel_centres": "integer",
        "depth": {
            "kind": sample.depth_kind,
            "measure": "z, not ray distance",
            "encoding": encoding.scale,
            "formula": codecs.FORMULAS[encoding.scale],
            "unit_per_code": encoding.unit_per_code,
            "near": encoding.near,
            "far": encoding.far,
        },
        "scores": {
            name: None if math.isnan(score) else score for name, score in sample.scores.items()
        },
        "mode": sample.mode,
        "model_id": sample.model_id,
        "licence": sample.licence,
        "digital_source_type": sample.digital_source_type,
        "sha256": {
            layout.MEMBERS[member].suffix: hashlib.sha256(data).hexdigest()
            for member, data in siblings.items()
        },
    }


class ShardSpool:
    """Collects the candidates of one shard on the local disk. Not thread-safe.

        with ShardSpool(run=..., shard=..., attempt=..., ...) as spool:
            for record in records:          # every candidate once, samples in rising order
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
        self._rows: list[dict[str, Any]] = []
        self._others: list[Reject | Quarantine] = []
        self._seen: set[int] = set()
        self._objects: dict[str, StoredObject] | None = None

    def __enter__(self) -> ShardSpool:
        with _on_disk(self._parent):
            parent = self._parent or Path(tempfile.gettempdir())
            locks.remove_abandoned(parent, _FOLDER_PREFIX)
            self._folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=parent))
            self._lock = locks.hold(self._folder)
            self._tar_file = self._path("tar").open("wb")
        self._tar = TarWriter(self._tar_file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing flushes, which fails again on a full disk and must not hide the first error.
        with contextlib.suppress(OSError):
            self._tar_file.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)

    def add(self, record: Record | EncodedSample) -> None:
        """Stage a candidate's outcome.

        Raises:
            ValueError: The candidate is not of this shard, was added before, is a sample out of
                order (the bytes of a tar must not depend on timing), or has an undeclared score, or
                other slots than were declared.
            MfsynthError: The local disk is full.
        """
        encoded = None
        if isinstance(record, Sample):
            record = encode_sample(record, self._declared)
        if isinstance(record, EncodedSample):
            encoded, record = record, record.sample
        self._admit(record)
        if isinstance(record, (Reject, Quarantine)):
            self._others.append(record)
            return
        assert encoded is not None
        name = record.ref.sample_id
        if self._rows and self._rows[-1]["candidate"] > record.ref.candidate:
            raise ValueError(f"{name}: samples must come in the order of candidates")
        with _on_disk(self._folder):
            spans = {
                member: self._tar.add(layout.member_name(name, member), getattr(encoded, member))
                for member in layout.MEMBERS
            }
        row = len(self._rows)
        placed = PlacedSample(record, encoded.encoding, self._shard, row, spans)
        self._rows.append(tables.index_row(placed))

    def close(self) -> None:
        """Finish the three files, read them back and compare them with what was added.

        Raises:
            ValueError: A candidate of the shard was never added.
            MfsynthError: The local disk is full, or did not keep what was written.
        """
        if missing := sorted({*self._range} - self._seen):
            raise ValueError(f"shard {self._shard}: candidate {missing[0]} has no outcome")
        others = sorted(self._others, key=lambda record: record.ref.candidate)
        with _on_disk(self._folder):
            self._tar.finish()
            self._tar_file.flush()
            os.fsync(self._tar_file.fileno())
            self._tar_file.close()
            index = tables.index_schema(self._declared)
            tables.write_table(self._path("index"), self._rows, index)
            tables.write_table(
                self._path("rejects"),
                [tables.reject_row(PlacedReject(record, self._shard)) for record in others],
                tables.rejects_schema(self._declared),
            )
            self._objects = {
                kind: StoredObject(
                    layout.object_key(kind, self._run, self._shard, self._attempt),
                    self._path(kind).stat().st_size,
                    sha256_of(self._path(kind)),
                )
                for kind in layout.OBJECT_KINDS
            }
        receipt = self._receipt(self._objects, {}, "")
        paths = (self._path(kind) for kind in layout.OBJECT_KINDS)
        if problems := shard_problems(receipt, *paths, decode=False):
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
        rejects = [record for record in self._others if isinstance(record, Reject)]
        return Receipt(
            run=self._run,
            run_sha256=self._run_sha256,
            shard=self._shard,
            attempt=self._attempt,
            first_candidate=self._range.start,
            candidates=len(self._range),
            accepted=len(self._rows),
            rejected=len(rejects),
            quarantined=len(self._others) - len(rejects),
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
            raise MfsynthError(
                f"no space left in the spool folder {where}; free some, or set TMPDIR to a "
                "larger disk, and run the same command again"
            ) from error
        raise MfsynthError(
            f"can't write to the spool folder {where}: {error.strerror or error}; "
            "set TMPDIR to a folder that can be written"
        ) from error
