"""Runs to read, damage and mend, and a store to keep them in."""

from collections.abc import Iterator

import pytest
import tiny_run
from s3_server import S3Server

from mfsynth.storage.store import ObjectStore


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    """An empty place for a run."""
    return ObjectStore.open(tmp_path / "run")


@pytest.fixture
def run_store(tmp_path) -> ObjectStore:
    """A local run of three committed shards."""
    return tiny_run.make_run(str(tmp_path / "run"))


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def s3(_s3_server, monkeypatch) -> S3Server:
    """A real S3 endpoint on loopback, which the environment names."""
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return _s3_server
