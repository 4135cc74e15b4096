from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset
from mfsynth.geometry import DepthKind, Intrinsics, IntrinsicsSource
from mfsynth.shards.commits import commit, open_run
from mfsynth.storage.store import ObjectStore

CAMERAS = (Intrinsics(30.0, 31.0, 15.25, 11.5), Intrinsics(40.5, 40.5, 16.0, 12.0))


def metric(candidate, *, far=None):
    """A pair in metres, with a hole; every second with the other camera."""
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


def make_metric_run(url, fars):
    store = ObjectStore.open(url)
    open_run(store, tiny_run.make_manifest())
    records = [metric(candidate, far=far) for candidate, far in enumerate(fars)]
    rejects = [tiny_run.make_reject(i) for i in range(len(fars), tiny_run.SHARD_SIZE)]
    assert commit(store, tiny_run.upload_shard(store, 0, [*records, *rejects]))
    return store


@pytest.fixture(scope="session")
def metric_run(tmp_path_factory) -> ObjectStore:
    """Four pairs in metres: near ones, one beyond TUM's and BOP's finest scale, one beyond 64 m."""
    url = str(tmp_path_factory.mktemp("runs") / "metric")
    return make_metric_run(url, [None, None, 20.0, 70.0])


@pytest.fixture(scope="session")
def metric_pairs(metric_run):
    """The pairs as they are read, with the bytes of their images."""
    dataset = RGBDDataset(metric_run.url)
    pairs = [dataset.with_files(number) for number in range(len(dataset))]
    assert [np.count_nonzero(~sample.valid) for sample, _ in pairs] == [6] * 4
    return pairs


@pytest.fixture
def out(tmp_path):
    """A folder that isn't there."""
    return tmp_path / "out"
