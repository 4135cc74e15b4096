"""A run that was begun by an earlier commit of its format goes on, by the settings of today.

`tests/data/format2` is one, with the first of its shards and the stand-in for a model. A new
setting that isn't unset by default would end it. `python tests/golden/test_resuming.py` records it
anew, which a new draft of the format asks for, and nothing else.
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
from mfsynth.prompts import open_prompts
from mfsynth.runs.driver import run_manifest
from mfsynth.runs.plan import RunPlan
from mfsynth.runs.protocol import Assignment, Made
from mfsynth.runs.settings import complete, run_fingerprint
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, open_run, read_commits, read_run
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore

BEGUN = Path(__file__).parents[1] / "data" / "format2"
MODEL = ModelInfo(id="embedded", revision="revision", licence="apache-2.0", height=16, width=16)
CONFIG = {
    "name": "begun",
    "target": {"candidates": 8},
    "shard_size": 4,
    "prompts": {"file": "prompts.txt"},
    "checks": {"validity": {}, "registration": {}},
    "output": "run",
}


def make(config: RunConfig, shard: int) -> ObjectStore:
    """Start or resume a run of this folder, and make one of its shards."""
    config = complete(config)
    prompts = open_prompts(config.prompts, config.seed)
    store = ObjectStore.open(config.output)
    identity = run_fingerprint(config, prompts.digest, MODEL.revision)
    run = open_run(store, run_manifest(config, identity, MODEL, prompts.slot_names))
    worker = standin.open_standin(config, "cpu", behaviour=standin.Behaviour())
    candidates = RunPlan.of(config, prompts, run.fingerprint).shard(shard)
    *_, end = worker.make_shard(Assignment(shard, f"attempt-{shard}", batch_size=4), candidates)
    assert isinstance(end, Made), end
    assert commit(store, end.receipt)
    return store


@pytest.fixture
def begun(tmp_path, monkeypatch) -> Path:
    """A copy of the folder, which is where we are."""
    shutil.copytree(BEGUN, tmp_path / "begun")
    monkeypatch.chdir(tmp_path / "begun")
    return tmp_path / "begun" / "run"


def test_the_recorded_run_is_of_this_format_and_sound(begun):
    store = ObjectStore.open(begun)
    assert read_run(store).format_version == layout.WRITTEN_VERSIONS[0]
    report = verify_run(store)
    assert (report.problems, report.shards) == ((), 1)


@pytest.mark.parametrize("source", ["its own run.json", "the user's file"])
def test_the_run_goes_on(begun, source):
    stored = ObjectStore.open(begun)
    values = read_run(stored).config if source == "its own run.json" else CONFIG
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
    shutil.rmtree(BEGUN, ignore_errors=True)
    BEGUN.mkdir()
    os.chdir(BEGUN)
    Path("prompts.txt").write_text("a red cube\na blue ball\na green cone\n")
    make(RunConfig.model_validate(CONFIG), 0)
