from __future__ import annotations

import numpy as np
import pytest
from metric_run import make_metric_run

from mfsynth.datasets import RGBDDataset
from mfsynth.storage.store import ObjectStore


@pytest.fixture(scope="session")
def metric_run(tmp_path_factory) -> ObjectStore:
    """Four pairs in metres: near ones, one beyond TUM's and BOP's finest scale, one beyond 64 m."""
    url = str(tmp_path_factory.mktemp("runs") / "metric")
    return make_metric_run(url, [None, None, 20.0, 70.0])


@pytest.fixture(scope="session")
def metric_pairs(metric_run):
    """The pairs as they are read, with their files."""
    dataset = RGBDDataset(metric_run.url)
    pairs = [dataset.with_files(number) for number in range(len(dataset))]
    assert [np.count_nonzero(~sample.valid) for sample, _ in pairs] == [6] * 4
    return pairs


@pytest.fixture
def out(tmp_path):
    """A folder that isn't there."""
    return tmp_path / "out"
