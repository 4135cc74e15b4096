"""A small run of synthetic pairs, made the way a worker and a driver make one."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import numpy as np

from mfsynth.config import settings_digest
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind, Intrinsics, IntrinsicsSource
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.compaction import compact
from mfsynth.shards.drivers import beat, note_progress, read_known_commits
from mfsynth.shards.gc import collect
from mfsynth.shards.records import CandidateRef, Quarantine, Receipt, Record, Reject, Sample
from mfsynth.shards.run_manifest import RunManifest, open_run, read_run, run_sha256
from mfsynth.shards.tables import Declared, contents_of_run
from mfsynth.shards.writer import EncodedReject, ShardSpool, encode_sample
from mfsynth.storage.listing import Entry
from mfsynth.storage.store import ObjectStore

RUN = "tiny"
SHARD_SIZE = 6
SETTINGS = {"seed": 0, "shard_size": SHARD_SIZE, "sampler": {"steps": 30}}
FINGERPRINT = settings_digest(SETTINGS)
RUN_ID = layout.run_id(RUN, FINGERPRINT)
SCORES = ("registration", "valid_fraction")
SEGMENTS = (2, 4)
"""Shards that segments of small runs cover."""
SLOTS = ("colour", "view")
ADDED = ("camera", "phash")
DECLARED = Declared(SCORES, SLOTS, ADDED, layout.FORMAT_VERSION)
_Made = TypeVar("_Made", bound=Record)


def make_ref(
    candidate: int, *, prompt: str, prompt_id: str, seed: int | None = None
) -> CandidateRef:
    return CandidateRef(
        sample_id=layout.sample_id(RUN_ID, candidate),
        candidate=candidate,
        seed=candidate if seed is None else seed,
        prompt=prompt,
        prompt_id=prompt_id,
        slots={"colour": ("red", "blue")[: candidate % 3], "view": ("from above",)},
    )


def make_sample(candidate: int, *, height: int = 24, width: int = 32) -> Sample:
    rng = np.random.default_rng(candidate)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    depth = (1 + 0.05 * rows + 0.02 * columns + 0.1 * rng.random()).astype(np.float32)
    depth[:2, :3] = 0
    ramp = np.stack([rows * 8, columns * 6, rows + columns], axis=-1)
    return Sample(
        make_ref(
            candidate,
            seed=candidate * 7_000_000_000_001,
            prompt=f"a red cube, number {candidate}",
            prompt_id=f"{candidate:016x}",
        ),
        rgb=np.clip(ramp + rng.integers(20), 0, 255).astype(np.uint8),
        depth=depth,
        scores={
            "registration": 2.0 + candidate,
            "valid_fraction": float("nan") if candidate == 1 else 0.99,
        },
        mode="joint",
        model_id="embedded",
        depth_kind=DepthKind.SCALE_INVARIANT_Z,
        licence="apache-2.0",
        intrinsics=Intrinsics.from_vertical_fov(height, width, 55.0) if candidate % 2 else None,
        intrinsics_source=IntrinsicsSource.ASSUMED if candidate % 2 else None,
        camera="d435" if candidate % 2 else None,
    )


def make_reject(candidate: int, reasons: tuple[str, ...] = ("registration",)) -> Reject:
    return Reject(
        make_ref(candidate, prompt="a blurred mug", prompt_id="00"),
        scores={"registration": 0.3},
        reasons=reasons,
        thumbnail_jpeg=b"\xff\xd8thumbnail",
    )


def make_rejected_pair(candidate: int) -> EncodedReject:
    """A reject whose pixels are kept."""
    reject = make_reject(candidate)
    sample = replace(make_sample(candidate), ref=reject.ref, scores={"registration": 0.3})
    pair = encode_sample(sample, DECLARED)
    return EncodedReject(replace(reject, phash=pair.phash), pair)


def make_quarantine(candidate: int) -> Quarantine:
    return Quarantine(
        make_ref(candidate, prompt="a cursed bowl", prompt_id="01"),
        reason="its worker died 3 times",
    )


def make_records(shard: int, run_id: str = RUN_ID) -> list[Record]:
    """Four samples, a reject and a quarantine; shard 2 has no sample at all."""
    first = shard * SHARD_SIZE
    records: list[Record] = [make_reject(first + i) for i in range(SHARD_SIZE)]
    if shard != 2:
        records[:4] = [make_sample(first + i) for i in range(4)]
        records[5] = make_quarantine(first + 5)
    return [of_run(record, run_id) for record in records]


def of_run(record: _Made, run_id: str) -> _Made:
    """A record of the tiny run as one of another run."""
    sample_id = layout.sample_id(run_id, record.ref.candidate)
    return replace(record, ref=replace(record.ref, sample_id=sample_id))


def make_manifest(*, keeps_rejects: bool = False, **settings: object) -> RunManifest:
    """Of the tiny run, or with other settings of another one."""
    changed = {**SETTINGS, **settings}
    contents = contents_of_run(dict.fromkeys(SCORES, ""), SLOTS, ADDED, keeps_rejects=keeps_rejects)
    return RunManifest(
        format_version=layout.FORMAT_VERSION,
        run=RUN,
        fingerprint=settings_digest(changed),
        settings=changed,
        config={"name": RUN, "seed": 0, "shard_size": SHARD_SIZE},
        versions={"mfsynth": "0.1.0"},
        created="2026-01-01T00:00:00+00:00",
        model={"id": "embedded", "revision": "r1", "licence": "apache-2.0"},
        members=contents["members"],
        columns=contents["columns"],
        reject_columns=contents["reject_columns"],
    )


def open_spool(shard: int = 0, *, keeps_rejects: bool = False, **changes: Any) -> ShardSpool:
    """For a shard of the tiny run."""
    settings: dict[str, Any] = {
        "run": RUN_ID,
        "run_sha256": "0" * 64,
        "shard": shard,
        "attempt": "a0",
        "first_candidate": shard * SHARD_SIZE,
        "candidates": SHARD_SIZE,
        "declared": replace(DECLARED, keeps_rejects=keeps_rejects),
    }
    return ShardSpool(**settings | changes)


def upload_shard(
    store: ObjectStore,
    shard: int,
    records: Sequence[Record] | None = None,
    attempt: str | None = None,
    run_id: str = RUN_ID,
) -> Receipt:
    """An upload, into a store with or without a `run.json`, which says what is kept."""
    declared = DECLARED
    try:
        run_hash = run_sha256(store)
        run = read_run(store)
        names = [[column["name"] for column in c] for c in (run.columns, run.reject_columns)]
        declared = Declared.by(names[0], run.format_version, names[1])
    except MfsynthError:
        run_hash = ""
    made: Sequence[Record | EncodedReject] = (
        make_records(shard, run_id) if records is None else records
    )
    if declared.keeps_rejects:
        made = [make_rejected_pair(r.ref.candidate) if isinstance(r, Reject) else r for r in made]
    attempt = attempt or layout.new_attempt()
    with open_spool(
        shard, run=run_id, run_sha256=run_hash, attempt=attempt, declared=declared
    ) as spool:
        for record in made:
            spool.add(record)
        spool.close()
        return spool.upload(store, seconds={"denoise": 1.0, "total": 2.0}, worker="here")


def make_run(url: str, shards: int = 3, manifest: RunManifest | None = None) -> ObjectStore:
    """A run with its first `shards` shards committed; eight pairs in three."""
    store = ObjectStore.open(url)
    open_run(store, manifest or make_manifest())
    for shard in range(shards):
        assert commit(store, upload_shard(store, shard))
    return store


def make_other(
    url: str, *, scores: Sequence[str] = SCORES, kind: DepthKind = DepthKind.METRIC_Z
) -> ObjectStore:
    """A run of one shard that makes other samples than the tiny one: four of them."""
    store = ObjectStore.open(url)
    manifest = make_manifest(seed=1)
    open_run(store, manifest)

    with ShardSpool(
        run=manifest.run_id,
        run_sha256=run_sha256(store),
        shard=0,
        attempt=layout.new_attempt(),
        first_candidate=0,
        candidates=4,
        declared=Declared((*scores,), ("room",)),
    ) as spool:
        for candidate in range(4):
            sample = of_run(make_sample(candidate, height=16, width=16), manifest.run_id)
            ref = replace(sample.ref, slots={"room": ("kitchen",)})
            scored = dict.fromkeys(scores, 0.5)
            spool.add(replace(sample, ref=ref, depth_kind=kind, scores=scored))
        spool.close()
        assert commit(store, spool.upload(store, seconds={}, worker="here"))
    return store


def make_missing_shards(url: str, shards: int) -> ObjectStore:
    """What a driver does from its start to its end, in one process."""
    store = ObjectStore.open(url)
    open_run(store, make_manifest())
    receipts = read_known_commits(store)
    beat(store, heartbeat := layout.new_heartbeat())
    note_progress(store, len(receipts))
    for shard in sorted({*range(shards)} - {*receipts}):
        commit(store, upload_shard(store, shard))
    note_progress(store, len(read_commits(store)))
    store.delete(heartbeat)
    return store


def compact_all(store: ObjectStore, sizes: Sequence[int] = SEGMENTS) -> None:
    """Write the segments that a run lacks."""
    done = [*compact(store, read_commits(store, from_segments=False), sizes=sizes)]
    assert not [problem for _, problem in done if problem]


def collect_all(store: ObjectStore) -> Sequence[Entry]:
    """Both phases of gc, when killed drivers are long forgotten; gives what was removed."""
    later = datetime.now(UTC) + timedelta(days=1)
    collect(store, timedelta(), delay=timedelta(), now=later)
    return collect(store, timedelta(), delay=timedelta(), now=later).removed


def contents(store: ObjectStore) -> list[tuple[str, str]]:
    """Name and SHA-256 of every member of every committed tar, in order."""
    members = []
    for receipt in read_commits(store).values():
        data = io.BytesIO(store.read_bytes(receipt.objects["tar"].key))
        with tarfile.open(fileobj=data) as tar:
            for member in tar:
                body = tar.extractfile(member)
                assert body is not None
                members.append((member.name, hashlib.sha256(body.read()).hexdigest()))
    return members


def race_to_commit(url: str, barrier, results) -> None:
    """One of several processes that upload shard 0 and commit it at the same moment."""
    store = ObjectStore.open(url)
    receipt = upload_shard(store, 0)
    barrier.wait(60)
    results.put((receipt.attempt, commit(store, receipt)))
