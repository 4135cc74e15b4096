"""Runs for the tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_nodes import Nodes
from run_folders import RunFolder
from tiny_jobs import Photographs

from mfsynth.config import RunConfig
from mfsynth.runs.settings import complete
from mfsynth.simulation.gl import gl_context


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """A cluster of two nodes that a test may break."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."
    started = Nodes(2)
    yield started
    started.cluster.shutdown()


@pytest.fixture
def run_folder(tmp_path: Path, tiny_model_dir: Path) -> RunFolder:
    return RunFolder(tmp_path, tiny_model_dir)


@pytest.fixture
def photographs(tmp_path):
    (tmp_path / "photographs").mkdir()
    return Photographs(tmp_path / "photographs")


@pytest.fixture
def job(run_folder):
    """Makes the configuration of a run with a source."""

    def config(mode, source, **changes) -> RunConfig:
        values = {name: value for name, value in run_folder.values.items() if name != "prompts"}
        sampler = {"mode": mode, "steps": 1, "guidance": 1.0}
        own = {"source": source, "sampler": sampler, "target": {"all": True}, "checks": {}}
        return complete(RunConfig.model_validate(values | {"shard_size": 3} | own | changes))

    return config


@pytest.fixture
def opengl_of_any_thread(opengl):
    """A context serves one thread, and a worker has one for loading."""
    gl_context.cache_clear()
    yield
    gl_context.cache_clear()
