"""The card that is written with `run.json`, and what the Hugging Face's `datasets` makes of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_run
import yaml

from mfsynth.shards.commits import read_commits, read_run
from mfsynth.shards.documents.card import first_card
from mfsynth.shards.finalize import finalize


@pytest.fixture
def begun(tmp_path):
    """A run that a driver has begun, with its first shard committed."""
    store = tiny_run.make_run(str(tmp_path / "begun"), shards=1)
    store.put_bytes("README.md", first_card(read_run(store)).encode())
    return store


@pytest.fixture
def finished(run_store):
    finalize(run_store)
    return run_store


@pytest.fixture
def with_leftovers(run_store):
    """A finished run beside what a worker uploaded in vain."""
    tiny_run.upload_shard(run_store, 1)
    finalize(run_store)
    return run_store


EVERY_CARD = pytest.mark.parametrize("run", ["begun", "finished", "with_leftovers"])


def library():
    # Where it is not installed, the folder `tests/datasets` is found by this name.
    pytest.importorskip("datasets.load")
    import datasets

    return datasets


def committed(store, kind: str) -> list[str]:
    tables = [
        pq.read_table(store.local_root / receipt.objects[kind].key, partitioning=None)
        for receipt in read_commits(store).values()
    ]
    return pa.concat_tables(tables)["sample_id"].to_pylist()


@EVERY_CARD
def test_its_configurations_name_the_tables_of_what_is_committed(run, request):
    store = request.getfixturevalue(run)
    _, matter, _ = store.read_bytes("README.md").decode().split("---\n", 2)
    found = {}
    for config in yaml.safe_load(matter)["configs"]:
        [files] = config["data_files"]
        patterns = [files["path"]] if isinstance(files["path"], str) else files["path"]
        paths = sorted(path for pattern in patterns for path in store.local_root.glob(pattern))
        tables = [pq.read_table(path, partitioning=None) for path in paths]
        found[config["config_name"]] = pa.concat_tables(tables)["sample_id"].to_pylist()
        assert files["split"] == "train"
        assert config.get("default", False) is (config["config_name"] == "pairs")
    assert found == {"pairs": committed(store, "index"), "rejects": committed(store, "rejects")}


@EVERY_CARD
def test_the_folder_is_a_data_set_for_its_library(run, request, tmp_path):
    datasets = library()
    store = request.getfixturevalue(run)
    cache = str(tmp_path / "cache")
    pairs = datasets.load_dataset(str(store.local_root), split="train", cache_dir=cache)
    assert pairs["sample_id"][:] == committed(store, "index")
    assert pairs[0]["prompt"] == "a red cube, number 0"
    assert {"depth_unit_per_code", "fx", "check_registration"} <= {*pairs.column_names}
    rejects = datasets.load_dataset(
        str(store.local_root), "rejects", split="train", cache_dir=cache
    )
    assert rejects["sample_id"][:] == committed(store, "rejects")
    assert rejects[0]["thumbnail"] == b"\xff\xd8thumbnail"


def test_the_tars_are_a_data_set_for_its_library_as_the_card_says(begun, tmp_path):
    datasets = library()
    tars = f"{begun.local_root}/shards/*.tar"
    members = datasets.load_dataset(
        "webdataset", data_files=tars, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert members["__key__"][:] == committed(begun, "index")
    assert np.asarray(members[0]["depth.png"]).dtype == np.uint16
    assert np.asarray(members[0]["rgb.jpg"]).shape == (24, 32, 3)


def test_the_first_card_says_what_it_is_and_whose_the_licence_is():
    card = first_card(tiny_run.make_manifest())
    matter = yaml.safe_load(card.split("---\n")[1])
    assert matter["license"] == "apache-2.0"
    assert "trainedAlgorithmicMedia" in matter["tags"]
    assert "size_categories" not in matter
    assert "made by a generative model, not by a camera: embedded (revision r1)" in card
    assert "`mfsynth finalize` writes the whole card" in card
