"""What must not change without a word: the bytes of a run, and what its configuration means.

`python tests/golden/test_goldens.py` records them anew; the difference is to be explained.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import standin
import tiny_run

from mfsynth.config import RunConfig, load_settings
from mfsynth.config.resources import resource_names
from mfsynth.evaluation.config import EvaluateConfig
from mfsynth.runs.items import RunItems
from mfsynth.runs.manifest import run_manifest
from mfsynth.runs.plan import RunPlan
from mfsynth.runs.protocol import Assignment, Made
from mfsynth.runs.settings import complete, load_run_config
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore
from mfsynth.training.config import load_train_config
from mfsynth.training.distillation.config import load_distill_config
from mfsynth.training.estimator_config import load_estimator_config
from mfsynth.training.kinds import describes_estimator

RECORDED = Path(__file__).parents[1] / "data" / "golden"
SHARDS = 3
CONFIG = {
    "name": "golden",
    "target": {"candidates": 24},
    "shard_size": 8,
    "prompts": {"library": "tabletop"},
    # Without a second pass, so that there are two depths to compare.
    "sampler": {"steps": 1, "refine_steps": 0},
    "checks": {
        "validity": {},
        "registration": {},
        "flying_pixels": {"max": 0.97},
        "self_agreement": {"max": 0.2, "steps": 2},
    },
}
# As a run has it that checks little.
FEW_CHECKS = {**CONFIG, "name": "few", "checks": {"flying_pixels": {}}}


def stand_in_run(url: str) -> dict[str, Any]:
    """Make a run as a worker and a driver do, in this process, and say what is in it."""
    config = complete(RunConfig.model_validate(CONFIG | {"output": url}))
    items = RunItems(config)
    store = ObjectStore.open(url)
    identity = items.fingerprint("revision")
    open_run(store, run_manifest(config, identity, model_of("embedded"), items))
    worker = standin.open_standin(config, "cpu", behaviour=standin.Behaviour())
    plan = RunPlan.of(config, items, identity.digest)
    for shard in range(SHARDS):
        assignment = Assignment(shard, f"attempt-{shard}", batch_size=4)
        *_, end = worker.make_shard(assignment, plan.shard(shard))
        assert isinstance(end, Made), end
        assert commit(store, end.receipt)
    rows = [
        row
        for receipt in read_commits(store).values()
        for kind in ("index", "rejects")
        for row in table_rows(store, receipt.objects[kind].key)
    ]
    return {
        "members": tiny_run.contents(store),
        "rows": hashlib.sha256("\n".join(rows).encode()).hexdigest(),
        "keys": sorted(store.list()),
        "reasons": [dict(receipt.reasons) for receipt in read_commits(store).values()],
    }


def table_rows(store: ObjectStore, key: str) -> list[str]:
    with store.local_copy(key) as path:
        table = pq.read_table(path, partitioning=None)
    thumbnails = ["thumbnail"] if "thumbnail" in table.schema.names else []
    return [str(table.schema.names), *map(str, table.drop_columns(thumbnails).to_pylist())]


def model_of(name: str):
    from mfsynth.models import ModelInfo

    return ModelInfo(id=name, revision="revision", licence="apache-2.0", height=16, width=16)


def fingerprints() -> dict[str, str]:
    """Digests of all configurations that come with mfsynth, and of two of this file's."""
    found = {}
    for name in resource_names("configs"):
        found[name] = digest(load_run_config(name))
    for values in (CONFIG, FEW_CHECKS):
        config = complete(RunConfig.model_validate(values | {"output": "out"}))
        found[f"golden: {config.name}"] = digest(config)
    for name in resource_names("configs/train"):
        load = load_estimator_config if describes_estimator(name) else load_train_config
        found[f"train/{name}"] = settings_digest(load(name))
    for name in resource_names("configs/distill"):
        found[f"distill/{name}"] = settings_digest(load_distill_config(name))
    for name in resource_names("configs/evaluate"):
        config = load_settings(EvaluateConfig, "configs/evaluate", name)
        found[f"evaluate/{name}"] = settings_digest(config)
    return found


def digest(config: RunConfig) -> str:
    if config.source is not None:  # which lies nowhere yet
        return settings_digest(config)
    return RunItems(config).fingerprint("rev").digest


def settings_digest(settings) -> str:
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


def same(found: Any, name: str) -> None:
    assert json.loads(json.dumps(found)) == recorded(name)


def test_a_run_on_a_local_disk_holds_the_recorded_bytes(tmp_path):
    same(stand_in_run(str(tmp_path / "run")), "run")


def test_a_run_on_s3_holds_the_recorded_bytes(s3):
    same(stand_in_run(f"{s3.new_bucket()}/run"), "run")


def test_every_configuration_means_what_it_meant():
    found = fingerprints()
    assert found.keys() == recorded("fingerprints").keys()
    same(found, "fingerprints")


def test_the_recorded_run_has_samples_and_rejects_for_several_reasons():
    run = recorded("run")
    assert len(run["members"]) > 3 * SHARDS
    assert len({reason for reasons in run["reasons"] for reason in reasons}) > 1


if __name__ == "__main__":
    import tempfile

    RECORDED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = stand_in_run(f"{folder}/run")
    (RECORDED / "run.json").write_text(json.dumps(run, indent=1) + "\n")
    (RECORDED / "fingerprints.json").write_text(json.dumps(fingerprints(), indent=1) + "\n")
