"""Runs to read, damage and mend."""

import pytest
import tiny_run

from mfsynth.shards.store import RunStore


@pytest.fixture
def store(tmp_path) -> RunStore:
    """An empty place for a run."""
    return RunStore.open(tmp_path / "run")


@pytest.fixture
def run_store(tmp_path) -> RunStore:
    """A local run of three committed shards."""
    return tiny_run.make_run(str(tmp_path / "run"))
