"""Workers load the files that the fingerprint of their run is of."""

from __future__ import annotations

import shutil

import pytest
from started import start

from mfsynth.config.estimators import DepthEstimatorConfig
from mfsynth.errors import MfsynthError
from mfsynth.runs.pool import open_shard_worker
from mfsynth.runs.revisions import pinned

COMMIT, DIGEST = "5" * 40, "d" * 64


def test_a_worker_whose_node_has_other_files_of_the_model_does_not_start(
    run_folder, tiny_model_dir
):
    model = run_folder.folder / "model"
    shutil.copytree(tiny_model_dir, model)
    run_folder.values["model"] = {"id": str(model)}
    config = run_folder.config()
    start(config)
    open_shard_worker(config, "cpu")
    weights = next(model.glob("transformer/*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(MfsynthError, match=r"^model: the files on this machine are .*, those of"):
        open_shard_worker(config, "cpu")


def test_workers_load_hub_ids_at_the_commits_that_the_driver_found(run_folder):
    config = run_folder.config(checks={"prompt_agreement": {"model": "someone/clip"}})
    config = config.model_copy(update={"estimator": DepthEstimatorConfig(id="someone/depth")})
    settings = {
        "model": {"revision": f"{COMMIT}+{DIGEST}"},
        "estimator": {"revision": COMMIT},
        "networks": {"checks.prompt_agreement": COMMIT},
    }
    found = pinned(config, settings)
    assert (found.model.revision, found.estimator.revision) == (COMMIT, COMMIT)
    assert found.checks["prompt_agreement"]["revision"] == COMMIT
    # Of a folder, whose digest is no revision to ask for.
    settings = {name: {"revision": DIGEST} for name in ("model", "estimator")}
    settings["networks"] = {"checks.prompt_agreement": DIGEST}
    assert pinned(config, settings) == config
