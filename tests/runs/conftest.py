"""Runs for the tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray_nodes import Nodes
from standin import accepted
from started import plan_of
from tiny_jobs import Photographs

from mfsynth.config import RunConfig
from mfsynth.prompts import derive_seed
from mfsynth.runs.settings import complete
from mfsynth.shards.layout import sample_id
from mfsynth.simulation.gl import gl_context


class RunFolder:
    """The configuration of a small run in a folder of its own."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.output = folder / "out"
        self.values: dict = {
            "name": "small",
            "target": {"pairs": 20},
            "shard_size": 8,
            "prompts": {"file": str(folder / "prompts.txt")},
            "model": {"id": str(model)},
            "sampler": {"steps": 1},
            "checks": {"validity": {}},
            "output": str(self.output),
            "runtime": {"workers": 2, "batch_size": 4, "device": "cpu"},
        }
        (folder / "prompts.txt").write_text("a red cube\na blue ball\na blue cube\n")

    def config(self, **changes) -> RunConfig:
        return complete(RunConfig.model_validate(self.values | changes))

    def file(self, **changes) -> Path:
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump(self.values | changes))
        return path

    def expected_ids(self, *, without: tuple[int, ...] = ()) -> list[str]:
        """The ids that the stand-in model must give: the shortest prefix of whole shards."""
        target = self.values["target"]["pairs"]
        ids: list[str] = []
        for shard in range(1000):
            if len(ids) >= target:
                return ids
            ids += self.ids_of(shard, without)
        raise AssertionError

    def ids_of(self, shard: int, without: tuple[int, ...] = ()) -> list[str]:
        size = self.values["shard_size"]
        run = plan_of(self.config()).run
        return [
            sample_id(run, i)
            for i in range(shard * size, (shard + 1) * size)
            if i not in without and accepted(derive_seed(0, "noise", i))
        ]


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
