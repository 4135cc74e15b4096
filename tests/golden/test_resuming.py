"""A run that was begun by an earlier commit of its format goes on, by the settings of today.

`tests/data/format2` is one of `2-draft.2`, with the first of its shards and the stand-in for a
model, `format2_draft3` one of `2-draft.3` that has what this adds. A new setting that isn't unset
by default would end them. `python tests/golden/test_resuming.py` records the second anew, which a
new draft of the format asks for, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import standin

from mfsynth.config import RunConfig
from mfsynth.models import ModelInfo
from mfsynth.runs.items import RunItems
from mfsynth.runs.manifest import run_manifest
from mfsynth.runs.plan import RunPlan
from mfsynth.runs.protocol import Assignment, Made
from mfsynth.runs.settings import complete
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.run_manifest import open_run, read_run
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore

DATA = Path(__file__).parents[1] / "data"
MODEL = ModelInfo(id="embedded", revision="revision", licence="apache-2.0", height=16, width=16)
CONFIG = {
    "name": "begun",
    "target": {"candidates": 8},
    "shard_size": 4,
    "prompts": {"file": "prompts.txt"},
    "checks": {"validity": {}, "registration": {}},
    "output": "run",
}
# What began each, and of which format.
BEGUN = {
    "format2": (CONFIG, "2-draft.2"),
    "format2_draft3": (
        CONFIG | {"camera": {"fov": 60.0}, "keep_rejects": "all", "seed": 1},
        "2-draft.3",
    ),
}


def make(config: RunConfig, shard: int) -> ObjectStore:
    """Start or resume a run of this folder, and make one of its shards."""
    config = complete(config)
    items = RunItems(config)
    store = ObjectStore.open(config.output)
    identity = items.fingerprint(MODEL.revision)
    run = open_run(store, run_manifest(config, identity, MODEL, items))
    worker = standin.open_standin(config, "cpu", behaviour=standin.Behaviour())
    candidates = RunPlan.of(config, items, run.fingerprint).shard(shard)
    *_, end = worker.make_shard(Assignment(shard, f"attempt-{shard}", batch_size=4), candidates)
    assert isinstance(end, Made), end
    assert commit(store, end.receipt)
    return store


@pytest.fixture(params=BEGUN)
def which(request) -> str:
    """Name of the folder."""
    return request.param


@pytest.fixture
def begun(which, tmp_path, monkeypatch) -> Path:
    """A copy of the folder, which is where we are."""
    shutil.copytree(DATA / which, tmp_path / "begun")
    monkeypatch.chdir(tmp_path / "begun")
    return tmp_path / "begun" / "run"


def test_the_recorded_run_is_of_its_format_and_sound(which, begun):
    store = ObjectStore.open(begun)
    assert read_run(store).format_version == BEGUN[which][1]
    report = verify_run(store)
    assert (report.problems, report.shards) == ((), 1)


@pytest.mark.parametrize("source", ["its own run.json", "the user's file"])
def test_the_run_goes_on(which, begun, source):
    stored = ObjectStore.open(begun)
    values = read_run(stored).config if source == "its own run.json" else BEGUN[which][0]
    store = make(RunConfig.model_validate(values), 1)
    assert verify_run(store).problems == ()
    assert list(read_commits(store)) == [0, 1]
    rows = [
        pq.read_table(begun / receipt.objects[kind].key, partitioning=None)["sample_id"].to_pylist()
        for receipt in read_commits(store).values()
        for kind in ("index", "rejects")
    ]
    run = read_run(store).run_id
    assert sorted(key for keys in rows for key in keys) == [
        layout.sample_id(run, candidate) for candidate in range(8)
    ]


if __name__ == "__main__":
    name = "format2_draft3"
    shutil.rmtree(DATA / name, ignore_errors=True)
    (DATA / name).mkdir()
    os.chdir(DATA / name)
    Path("prompts.txt").write_text("a red cube\na blue ball\na green cone\n")
    make(RunConfig.model_validate(BEGUN[name][0]), 0)
