"""What others' readers return for a run, by docs/how-to/loading.md's snippets, in mm."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import metric_run
import numpy as np
import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset
from mfsynth.shards.commits import commit
from mfsynth.shards.finalize import finalize
from mfsynth.shards.quantisation import MAX_CODE
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "loading.md"
FARS = [None, None, 9.0, 70.0, 2.5, None, 30.0]
"""Depth of four pixels of each pair; those of 70 m have logarithmic codes."""
HOLE, NEAR, FAR = (0, 0), (12, 5), (10, 12)


def snippets() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def snippet(word: str) -> str:
    """The only one that has a word."""
    [found] = [each for each in snippets() if word in each]
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> ObjectStore:
    """Seven metric pairs in two shards, one without any, and an upload that nobody committed."""
    store = ObjectStore.open(tmp_path_factory.mktemp("others") / "run")
    open_run(store, tiny_run.make_manifest())
    for shard, first in ((0, 0), (2, 4)):
        candidates = range(6 * shard, 6 * shard + 6)
        samples = [
            metric_run.metric_sample(candidate, far)
            for candidate, far in zip(candidates, FARS[first : first + 4], strict=False)
        ]
        rest = [tiny_run.make_reject(number) for number in candidates[len(samples) :]]
        assert commit(store, tiny_run.upload_shard(store, shard, [*samples, *rest]))
    nothing = [tiny_run.make_reject(number) for number in range(6, 12)]
    assert commit(store, tiny_run.upload_shard(store, 1, nothing))
    tiny_run.upload_shard(store, 3)
    finalize(store)
    return store


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def done(run: ObjectStore, *texts: str) -> dict[str, Any]:
    """Names that snippets leave, one run after the other."""
    names: dict[str, Any] = {"__name__": "snippet"}
    for text in texts:
        assert '"out/mine"' in text or "run = " not in text
        exec(compile(text.replace('"out/mine"', repr(run.url)), str(PAGE), "exec"), names)
    return names


def millimetres(depths: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {
        sample_id: [round(1000 * float(depth[at]), 2) for at in (HOLE, NEAR, FAR)]
        for sample_id, depth in depths.items()
    }


def expected(run: ObjectStore, least: float = 0) -> dict[str, list[float]]:
    samples = [each for each in RGBDDataset(run.url) if each.scores["registration"] > least]
    return millimetres({sample.sample_id: sample.depth for sample in samples})


def test_what_all_are_compared_with_is_what_was_stored(run):
    found = expected(run)
    assert len(found) == 7
    for far, candidate, values in zip(FARS, (0, 1, 2, 3, 12, 13, 14), found.values(), strict=True):
        stored = metric_run.metric_sample(candidate, far).depth
        # Half a code, of the range of the pair; a logarithmic one is of its depth.
        step = 70e3 / MAX_CODE if (far or 0) < 70 else 5
        np.testing.assert_allclose(values, [1000 * stored[at] for at in (HOLE, NEAR, FAR)], 0, step)
        assert values[0] == 0
        assert far is None or abs(values[2] - 1000 * far) < step


@pytest.mark.parametrize(
    ("reader", "least"),
    [
        ("webdataset.WebDataset", 0),
        ("load_dataset(str(run)", 0),
        ("pyarrow.dataset.dataset", 3),
        ("polars.scan_parquet", 3),
        ("duckdb.sql", 3),
    ],
)
def test_a_reader_of_others_returns_these_millimetres(run, reader, least):
    found = done(run, snippet("def stored_depth"), snippet(reader))
    depths = found["depths"]
    wanted = expected(run, least)
    assert millimetres(depths) == {key: pytest.approx(wanted[key], abs=0.05) for key in wanted}
    assert [*depths] == [*wanted]
    assert len(wanted) > 3
    assert all(depth.dtype == np.float32 for depth in depths.values())


def test_of_the_images_of_datasets_every_code_is_kept(run):
    codes = done(run, snippet("def stored_depth"), snippet("load_dataset(str(run)"))["codes"]
    for sample in RGBDDataset(run.url):
        found = codes[sample.sample_id]
        assert found.dtype == np.uint16
        assert len(np.unique(found)) == len(np.unique(sample.depth))


def test_torchdata_goes_on_in_mid_epoch(run):
    text = snippet("StatefulDataLoader")
    for workers in (0, 1):
        code = text.replace("num_workers=1", f"num_workers={workers}")
        first, second = done(run, code), done(run, code)
        seen = [first["batch"], *_rest(second["loader"], first["state"])]
        assert [one for batch in seen for one in batch["sample_id"]] == [*expected(run)]
        depths = {
            sample_id: depth[0].numpy()
            for batch in seen
            for sample_id, depth in zip(batch["sample_id"], batch["depth"], strict=True)
        }
        assert millimetres(depths) == expected(run)


def _rest(loader, state):
    loader.load_state_dict(state)
    return [*loader]


def _by_ray_data(run: ObjectStore) -> dict[str, np.ndarray]:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    depths: dict[str, np.ndarray] = done(
        run, snippet("def stored_depth"), snippet("read_webdataset")
    )["depths"]
    return depths


@pytest.mark.slow
def test_ray_data_returns_these_millimetres(run):
    # Of its own: a process keeps the ways of its first Ray, and that of runs asks for tokens.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        depths = process.submit(_by_ray_data, run).result()
    wanted = expected(run)
    assert {*depths} == {*wanted}
    for sample_id, values in millimetres(depths).items():
        assert values == pytest.approx(wanted[sample_id], abs=0.05)
