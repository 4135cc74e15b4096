"""Runs that are listed are one data set: each pair once, each from its own store."""

from __future__ import annotations

import pickle
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_run

import mfsynth
from mfsynth.datasets import RGBDDataset, ranges
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.copy import copy_run
from mfsynth.shards.records import StoredObject
from mfsynth.shards.refilter import refilter
from mfsynth.shards.run_manifest import RunManifest, open_run
from mfsynth.shards.views import Bound, Rules
from mfsynth.storage.digests import sha256_of_file
from mfsynth.storage.store import ObjectStore

HIGH = Rules({"registration": Bound(0.4, is_minimum=True)})
FIRST = Path(__file__).parents[1] / "data" / "format1"


def with_column(store, name, column):
    """Add a column to the index of the first shard, as a later mfsynth may."""
    receipt = read_commits(store)[0]
    path = store.local_root / receipt.objects["index"].key
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.append_column(name, column), path)
    stored = StoredObject(receipt.objects["index"].key, path.stat().st_size, sha256_of_file(path))
    changed = replace(receipt, objects={**receipt.objects, "index": stored})
    (store.local_root / layout.commit_key(0)).write_text(changed.to_json())


def ids(dataset):
    return [sample.sample_id for sample in dataset]


def assert_equal(found, expected):
    assert (found.ref, found.depth_kind) == (expected.ref, expected.depth_kind)
    np.testing.assert_array_equal(found.rgb, expected.rgb)
    np.testing.assert_array_equal(found.depth, expected.depth)


@pytest.mark.parametrize("remote", [False, True])
def test_pairs_follow_each_other_in_the_order_of_the_list(run_store, tmp_path, remote):
    place = f"memory://{uuid.uuid4().hex}/run" if remote else str(tmp_path / "other")
    other = tiny_run.make_other(place)
    urls = [other.url, FIRST, run_store.url]
    parts = [RGBDDataset(url) for url in urls]
    dataset = RGBDDataset(urls)
    assert len(dataset) == len(dataset.index) == 4 + 7 + 8
    assert ids(dataset) == [*ids(parts[0]), *ids(parts[1]), *ids(parts[2])]
    assert dataset.index["sample_id"].to_pylist() == ids(dataset)
    expected = [sample for part in parts for sample in part]
    for number in (0, 3, 4, 10, 11, 18, -1, -19):
        assert_equal(dataset[number], expected[number])
    assert [sample.candidate for sample in dataset[9:13]] == [s.candidate for s in expected[9:13]]
    assert [sample.depth_kind for sample in dataset[3:5]] == [
        DepthKind.METRIC_Z,
        DepthKind.SCALE_INVARIANT_Z,
    ]
    with pytest.raises(IndexError, match="sample 19 of 19"):
        dataset[19]


def test_a_list_of_one_is_that_run(run_store):
    one, listed = RGBDDataset(run_store.url), RGBDDataset([run_store.local_root])
    assert listed.index.equals(one.index, check_metadata=True)
    assert ids(listed) == ids(one)


def test_an_empty_list_is_refused():
    with pytest.raises(MfsynthError, match="no run is listed"):
        RGBDDataset([])


def test_a_run_without_a_pair_adds_nothing(run_store, tmp_path):
    empty = ObjectStore.open(tmp_path / "empty")
    open_run(empty, tiny_run.make_manifest(seed=2))
    other = tiny_run.make_other(str(tmp_path / "other"))
    dataset = RGBDDataset([empty.url, run_store.url, empty.url, other.url, empty.url])
    assert ids(dataset) == [*ids(RGBDDataset(run_store.url)), *ids(RGBDDataset(other.url))]


def test_they_are_pickled_and_read_when_the_working_directory_has_changed(
    run_store, tmp_path, monkeypatch
):
    tiny_run.make_other(str(tmp_path / "other"))
    monkeypatch.chdir(tmp_path)
    dataset = RGBDDataset(["run", "other"], transform=len_of_text)
    expected = [*dataset]
    monkeypatch.chdir("/")
    assert [*pickle.loads(pickle.dumps(dataset))] == [*dataset] == expected


def len_of_text(sample):
    return sample.sample_id, len(sample.prompt), float(sample.depth.sum())


def test_few_files_are_open_for_all_runs_together(run_store, tmp_path, monkeypatch):
    monkeypatch.setattr(ranges, "_MAX_OPEN_FILES", 2)
    dataset = RGBDDataset([run_store.url, tiny_run.make_other(str(tmp_path / "other")).url])
    assert len(ids(dataset)) == 12
    assert len(dataset._reader._files) == 2


def test_columns_that_a_run_has_not_are_null_in_its_rows(run_store, tmp_path):
    other = tiny_run.make_other(str(tmp_path / "other"), scores=("sharpness", "registration"))
    with_column(other, "episode", pa.array(["a", "b", "c", "d"]))
    rows = 8
    dataset = RGBDDataset([run_store.url, other.url])
    index = dataset.index
    names = RGBDDataset(run_store.url).index.column_names
    assert index.column_names == [*names, "slot_room", "check_sharpness", "episode"]
    assert index["episode"].to_pylist() == [None] * rows + ["a", "b", "c", "d"]
    assert index["check_sharpness"].to_pylist() == [None] * rows + [0.5] * 4
    assert index["check_valid_fraction"].to_pylist()[rows:] == [None] * 4
    assert None not in index["check_registration"].to_pylist()
    assert dataset[0].scores == pytest.approx(
        {"registration": 2.0, "valid_fraction": 0.99, "sharpness": float("nan")}, nan_ok=True
    )
    assert dataset[-1].scores["sharpness"] == 0.5
    assert {*dataset[0].slots} == {*tiny_run.SLOTS}
    assert dataset[-1].slots == {"room": ("kitchen",)}


def test_a_column_of_two_types_is_refused_in_a_line_that_names_both_runs(run_store, tmp_path):
    other = tiny_run.make_other(str(tmp_path / "other"))
    with_column(other, "episode", pa.array(["a", "b", "c", "d"]))
    third = tiny_run.make_run(str(tmp_path / "third"), 1)
    with_column(third, "episode", pa.array([1, 2, 3, 4]))
    match = f"{other.url} and {third.url} can't be one data set: the column 'episode' is string"
    refuses([other.url, third.url], match)


def refuses(urls, match):
    with pytest.raises(MfsynthError, match=match) as info:
        RGBDDataset(urls)
    assert "\n" not in str(info.value)


def test_a_run_and_its_copy_are_refused(run_store, tmp_path):
    copy = ObjectStore.open(tmp_path / "copy")
    copy_run(run_store, copy)
    other = tiny_run.make_other(str(tmp_path / "other"))
    for again in (run_store, copy):
        refuses(
            [run_store.url, other.url, again.url],
            f"{run_store.url} and {again.url} both have the sample '{tiny_run.RUN_ID}-000000000': "
            "they are the same run, or one is a copy; list it once",
        )


def test_runs_that_make_the_same_samples_are_refused(run_store, tmp_path):
    again = ObjectStore.open(tmp_path / "again")
    open_run(again, replace(tiny_run.make_manifest(), created="2026-01-02T00:00:00+00:00"))
    commit(again, tiny_run.upload_shard(again, 1))
    refuses(
        [run_store.url, again.url],
        f"both have the sample '{tiny_run.RUN_ID}-000000006': they make the same samples",
    )


def test_two_runs_of_the_first_version_and_one_name_are_refused(tmp_path):
    other = ObjectStore.open(tmp_path / "other")
    shutil.copytree(FIRST, other.local_root)
    path = other.local_root / layout.RUN_KEY
    stored = RunManifest.from_json(path.read_bytes())
    path.write_text(replace(stored, created="2026-01-02T00:00:00+00:00").to_json())
    refuses(
        [FIRST, other.url],
        f"{FIRST} and {other.url} both have the sample 'first-000000000': in runs of format "
        "version 1 names are unique in the run alone; load them one by one, or make",
    )


def test_damage_is_told_of_the_run_that_has_it(run_store, tmp_path):
    other = tiny_run.make_other(str(tmp_path / "other"))
    dataset = RGBDDataset([run_store.url, other.url])
    (other.local_root / read_commits(other)[0].objects["tar"].key).unlink()
    with pytest.raises(MfsynthError, match=f"{other.url}/shards/.* it is missing"):
        dataset[8]
    assert dataset[7].candidate == 9
    lost = layout.commit_key(0)
    other.delete(lost)
    refuses([run_store.url, other.url], f"{other.url} has objects .* but no receipt")


def test_one_function_opens_a_run_several_or_a_mixture(run_store, tmp_path):
    other = tiny_run.make_other(str(tmp_path / "other"))
    assert len(mfsynth.open_dataset(run_store.url)) == 8
    assert ids(mfsynth.open_dataset([run_store.url, other.url]))[8:] == ids(RGBDDataset(other.url))
    mixture = mfsynth.open_dataset({run_store.url: 3, other.url: 1})
    found = [
        s
        for batch in mixture.loader(6, workers=0, fields=["sample_id"])
        for s in batch["sample_id"]
    ]
    assert len(found) == len(mixture) == 12
    assert 0 < len([s for s in found if s in ids(RGBDDataset(other.url))]) < 9
    for twice in ([run_store.url] * 2, dict.fromkeys((run_store.url, f"{run_store.url}/"), 1)):
        with pytest.raises(MfsynthError, match=r"the same run.* (list it once|give one of them)"):
            mfsynth.open_dataset(twice)
    with pytest.raises(AttributeError, match="has no attribute 'open_data'"):
        _ = mfsynth.open_data


def test_a_view_that_each_run_has_takes_the_place_of_all_their_pairs(tmp_path):
    one = tiny_run.make_run(str(tmp_path / "one"), 2, tiny_run.make_manifest(keeps_rejects=True))
    other = tiny_run.make_other(str(tmp_path / "other"))
    refilter(one, "high", Rules({"registration": Bound(0.2, is_minimum=True)}))
    with pytest.raises(MfsynthError, match="no view 'high'"):
        RGBDDataset([one.url, other.url], view="high")
    refilter(other, "high", HIGH)
    both = RGBDDataset([one.url, other.url], view="high")
    alone = [RGBDDataset(store.url, view="high") for store in (one, other)]
    assert ids(both) == [sample_id for dataset in alone for sample_id in ids(dataset)]
    assert [both.index["returned"].to_pylist().count(value) for value in (True, False)] == [2, 12]
    for found, expected in zip(both, [*alone[0], *alone[1]], strict=True):
        np.testing.assert_array_equal(found.rgb, expected.rgb)
    assert len(pickle.loads(pickle.dumps(both))) == len(both)
