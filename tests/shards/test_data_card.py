"""The card that is written with `run.json`, and what the Hugging Face's `datasets` makes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_run
import yaml

from mfsynth.shards.commits import read_commits
from mfsynth.shards.documents.card import first_card, size_category
from mfsynth.shards.finalize import finalize
from mfsynth.shards.quantisation import DepthScale
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.writer import encode_sample


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


@EVERY_CARD
def test_its_code_does_what_it_says_as_it_is_written(run, request, tmp_path, monkeypatch):
    datasets = library()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    store = request.getfixturevalue(run)
    card = store.read_bytes("README.md").decode().replace("path or URL of", "path of")
    own, web, hub = (
        _names_after(code.replace("path of this folder", store.url))
        for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    )
    keys = committed(store, "index")
    assert [sample.sample_id for sample in own["dataset"]] == keys
    pairs = [*web["dataset"]]
    for (rgb, depth), sample in zip(pairs, own["dataset"], strict=True):
        np.testing.assert_allclose(depth, sample.depth, rtol=5e-4)
        assert cv2.PSNR(np.ascontiguousarray(rgb), sample.rgb) > 35
    wide = tiny_run.make_sample(3)
    wide = encode_sample(replace(wide, depth=wide.depth**9))
    assert wide.encoding.scale is DepthScale.LOG
    _, depth = web["decode"]({"rgb.jpg": wide.rgb, "depth.png": wide.depth, "json": wide.json})
    np.testing.assert_allclose(depth, wide.sample.depth, rtol=5e-4)
    assert hub["pairs"]["sample_id"][:] == keys
    assert hub["rejects"]["sample_id"][:] == committed(store, "rejects")
    members = hub["members"]
    assert {*members["__key__"][:]} >= {*keys}
    assert np.asarray(members[0]["depth.png"]).dtype == np.uint16
    assert np.asarray(members[0]["rgb.jpg"]).shape == (24, 32, 3)


def _names_after(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "card"}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_sizes_are_named_as_the_hub_names_them():
    sizes = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M"]
    sizes += ["100M<n<1B", "1B<n<10B", "10B<n<100B", "100B<n<1T", "n>1T"]
    for power, size in enumerate(sizes, start=2):
        assert {size_category(10**power), size_category(10 ** (power + 1) - 1)} == {size}


def test_the_first_card_says_what_it_is_and_whose_the_licence_is():
    card = first_card(tiny_run.make_manifest())
    matter = yaml.safe_load(card.split("---\n")[1])
    assert matter["license"] == "apache-2.0"
    assert "trainedAlgorithmicMedia" in matter["tags"]
    assert "size_categories" not in matter
    assert "made by a generative model, not by a camera: embedded (revision r1)" in card
    assert "`mfsynth finalize` writes the whole card" in card
