"""Runs that keep the pixels of what they reject, in a tar of their own."""

from __future__ import annotations

import json
import tarfile

import pyarrow.parquet as pq
import pytest
import tiny_run
from tiny_run import make_records, make_reject, make_rejected_pair

from mfsynth.datasets import RGBDDataset
from mfsynth.shards import layout
from mfsynth.shards.commits import read_commits
from mfsynth.shards.copy import copy_run
from mfsynth.shards.finalize import finalize
from mfsynth.shards.gc import garbage
from mfsynth.shards.run_manifest import read_run
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore


@pytest.fixture
def keeping(tmp_path) -> ObjectStore:
    """A run of three shards that keeps them."""
    return tiny_run.make_run(str(tmp_path / "run"), 3, tiny_run.make_manifest(keeps_rejects=True))


def rows_of(store, kind, shard=0):
    key = read_commits(store)[shard].objects[kind].key
    return pq.read_table(store.local_root / key, partitioning=None)


def test_their_members_lie_in_a_fourth_object_and_their_rows_point_into_it(keeping):
    stored = read_commits(keeping)[0].objects[layout.REJECTED_TAR]
    assert stored.key == read_commits(keeping)[0].objects["rejects"].key.replace(".parquet", ".tar")
    data = keeping.read_bytes(stored.key)
    rejected, quarantined = rows_of(keeping, "rejects").to_pylist()
    pair = make_rejected_pair(4).pair
    for member in layout.MEMBERS:
        offset, size = rejected[f"{member}_offset"], rejected[f"{member}_size"]
        assert data[offset : offset + size] == getattr(pair, member)
        assert quarantined[f"{member}_offset"] is None
    assert json.loads(pair.json)["sample_id"] == rejected["sample_id"]
    with tarfile.open(keeping.local_root / stored.key) as tar:
        assert len(tar.getnames()) == 3


def test_their_rows_have_all_columns_of_the_index_and_run_json_names_them(keeping):
    index, rejects = rows_of(keeping, "index"), rows_of(keeping, "rejects")
    assert {*index.column_names} <= {*rejects.column_names}
    assert [c["name"] for c in read_run(keeping).reject_columns] == rejects.column_names
    for name in index.column_names:
        assert index.schema.field(name).type == rejects.schema.field(name).type


def test_the_data_set_is_that_of_a_run_that_keeps_none(keeping, tmp_path):
    other = tiny_run.make_run(str(tmp_path / "other"))
    assert tiny_run.contents(keeping) == tiny_run.contents(other)
    assert RGBDDataset(keeping.url).index.equals(RGBDDataset(other.url).index)


def test_they_are_verified_copied_finalized_and_no_garbage(keeping, tmp_path):
    finalize(keeping)
    assert verify_run(keeping).problems == ()
    copy = ObjectStore.open(tmp_path / "copy")
    copy_run(keeping, copy)
    assert verify_run(copy).problems == ()
    key = read_commits(copy)[1].objects[layout.REJECTED_TAR].key
    assert copy.read_bytes(key) == keeping.read_bytes(key)
    assert key in copy.read_bytes(layout.CROISSANT_KEY).decode()
    assert not [entry for entry in garbage(keeping) if entry.key == key]
    lost = tiny_run.upload_shard(keeping, 1).objects[layout.REJECTED_TAR].key
    assert lost in {entry.key for entry in tiny_run.collect_all(keeping)}
    assert verify_run(keeping).problems == ()


def test_one_without_pixels_is_null_in_what_they_would_have(tmp_path):
    store = ObjectStore.open(tmp_path / "run")
    records = [make_rejected_pair(0), *make_records(0)[1:4], make_reject(4), make_records(0)[5]]
    spool = tiny_run.open_spool(keeps_rejects=True)
    with spool:
        for record in records:
            spool.add(record)
        spool.close()
        receipt = spool.upload(store, seconds={}, worker="here")
    rows = pq.read_table(
        store.local_root / receipt.objects["rejects"].key, partitioning=None
    ).to_pylist()
    assert [row["width"] for row in rows] == [32, None, None]


def test_pixels_out_of_order_or_of_a_run_that_keeps_none_are_refused():
    with tiny_run.open_spool(keeps_rejects=True) as spool:
        spool.add(make_rejected_pair(3))
        with pytest.raises(ValueError, match="in the order of candidates"):
            spool.add(make_rejected_pair(2))
    with (
        tiny_run.open_spool() as spool,
        pytest.raises(ValueError, match="keeps no pixels of rejects"),
    ):
        spool.add(make_rejected_pair(2))


@pytest.mark.parametrize("keeps", [True, False])
def test_a_receipt_and_a_run_json_that_disagree_about_them_are_found(tmp_path, keeps):
    store = tiny_run.make_run(
        str(tmp_path / "run"), 1, tiny_run.make_manifest(keeps_rejects=not keeps)
    )
    values = json.loads(store.read_bytes(layout.RUN_KEY))
    columns = tiny_run.make_manifest(keeps_rejects=keeps).reject_columns
    store.put_bytes(layout.RUN_KEY, json.dumps(values | {"reject_columns": columns}).encode())
    named = "no tar" if keeps else "a tar"
    assert any(f"names {named} of rejected pairs" in line for line in verify_run(store).problems)
