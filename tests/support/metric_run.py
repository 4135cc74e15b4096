"""A small run whose pairs are in metres, with two cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import tiny_run

from mfsynth.geometry import DepthKind, Intrinsics, IntrinsicsSource
from mfsynth.shards.commits import commit, open_run
from mfsynth.shards.records import Sample
from mfsynth.storage.store import ObjectStore

CAMERAS = (Intrinsics(30.0, 31.0, 15.25, 11.5), Intrinsics(40.5, 40.5, 16.0, 12.0))


def metric_sample(candidate: int, far: float | None = None) -> Sample:
    """A pair with a hole, and four pixels `far` away; every second with the other camera."""
    sample = tiny_run.make_sample(candidate)
    depth = sample.depth.copy()
    if far is not None:
        depth[10, 10:14] = far
    return replace(
        sample,
        depth=depth,
        depth_kind=DepthKind.METRIC_Z,
        intrinsics=CAMERAS[candidate % 2],
        intrinsics_source=IntrinsicsSource.RENDERED,
    )


def make_metric_run(url: str, fars: Sequence[float | None]) -> ObjectStore:
    """One committed shard, a pair for each of `fars`."""
    store = ObjectStore.open(url)
    open_run(store, tiny_run.make_manifest())
    records = [metric_sample(candidate, far) for candidate, far in enumerate(fars)]
    rejects = [tiny_run.make_reject(i) for i in range(len(fars), tiny_run.SHARD_SIZE)]
    assert commit(store, tiny_run.upload_shard(store, 0, [*records, *rejects]))
    return store
