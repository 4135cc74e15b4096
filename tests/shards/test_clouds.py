"""A run in every kind of object store, behind its own package and on an endpoint on loopback.

What the endpoints can't do: moto and fake-gcs-server ask for no credentials (Azurite does); moto
does not make a conditional create one step (the proxy before it does); fake-gcs-server knows
neither hierarchical buckets nor their gRPC calls, which the tests switch off in gcsfs.
"""

from __future__ import annotations

import hashlib
import logging
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import tiny_run
from whole_lives import NO_GRACE, assert_like_an_undisturbed_run, operations, whole_life

from mfsynth.cli import main
from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.gc import collect
from mfsynth.shards.refilter import refilter
from mfsynth.shards.verify import verify_run
from mfsynth.shards.views import Bound, Rules
from mfsynth.storage.errors import StoreRefusedError
from mfsynth.storage.store import ObjectStore

CANDIDATES = [0, 1, 2, 3, 6, 7, 8, 9]


@pytest.fixture
def run_url(cloud) -> str:
    return f"{cloud.new_bucket()}/run"


def test_a_run_in_a_cloud_equals_one_on_a_disk(run_url, run_store):
    assert_like_an_undisturbed_run(whole_life(run_url), run_store)


def test_of_drivers_that_race_in_a_cloud_exactly_one_commits(run_url):
    store = ObjectStore.open(run_url)
    receipts = [tiny_run.upload_shard(store, 0) for _ in range(6)]
    with ThreadPoolExecutor(len(receipts)) as pool:
        won = [*pool.map(lambda receipt: commit(store, receipt), receipts)]
    assert won.count(True) == 1
    assert read_commits(store) == {0: receipts[won.index(True)]}


def test_gc_in_a_cloud_marks_first_and_removes_later(run_url):
    store = tiny_run.make_run(run_url, 1)
    lost = {stored.key for stored in tiny_run.upload_shard(store, 0).objects.values()}
    first = collect(store, NO_GRACE)
    assert ({entry.key for entry in first.marked}, first.removed) == (lost, ())
    assert lost <= {*store.list()}
    last = collect(store, NO_GRACE, now=first.due + timedelta(minutes=1))
    assert ({entry.key for entry in last.removed}, last.marked) == (lost, ())
    assert not lost & {*store.list()}
    assert verify_run(store).problems == ()


def test_a_view_in_a_cloud_is_created_once_and_brings_rejected_pairs_back(run_url):
    manifest = tiny_run.make_manifest(keeps_rejects=True)
    store = tiny_run.make_run(run_url, 1, manifest)
    loose = Rules({"registration": Bound(0.1, is_minimum=True)})
    refilter(store, "loose", loose)
    with pytest.raises(MfsynthError, match="has a view 'loose', which is not changed"):
        refilter(store, "loose", Rules())
    refilter(store, "loose", Rules(), replace=True)
    assert len(RGBDDataset(run_url, view="loose")) == 4
    refilter(store, "loose", loose, replace=True)
    assert [pair.candidate for pair in RGBDDataset(run_url, view="loose")] == [0, 1, 2, 3, 4]
    assert verify_run(store).problems == ()


def test_an_upload_that_was_begun_and_not_ended_is_no_object(cloud):
    bucket = cloud.new_bucket()
    store = ObjectStore.open(f"{bucket}/run")
    cloud.begin_upload(bucket, "run/shards/a.tar")
    assert store.entries() == []
    assert store.any_key(ignoring=lambda key: False) is None
    assert not store.exists("shards/a.tar")
    store.put_bytes("shards/a.tar", b"whole")
    assert store.read_bytes("shards/a.tar") == b"whole"


def test_a_vanished_bucket_is_one_clear_line_and_never_an_empty_run(cloud):
    bucket = cloud.new_bucket()
    store = tiny_run.make_run(f"{bucket}/run", 1)
    cloud.remove_bucket(bucket)
    for operation in [*operations(store), lambda: store.put_file(__file__, "shards/a.tar")]:
        with pytest.raises(StoreRefusedError, match="there is no such bucket; create it") as info:
            operation()
        assert "\n" not in str(info.value)


@pytest.mark.slow
def test_an_object_larger_than_a_request_goes_up_whole(run_url, tmp_path):
    source = tmp_path / "large"
    source.write_bytes(bytes(range(256)) * (66 * 2**20 // 256))
    store = ObjectStore.open(run_url)
    store.put_file(source, "shards/large")
    with store.local_copy("shards/large") as copy:
        sums = [hashlib.sha256(path.read_bytes()).digest() for path in (copy, source)]
    assert sums[0] == sums[1]
    assert store.read_range("shards/large", 65 * 2**20 + 3, 5) == bytes(range(3, 8))


def to_arrays(sample):
    return {"rgb": sample.rgb, "candidate": sample.candidate}


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_torchs_workers_load_from_a_cloud(run_url, start):
    from torch.utils.data import DataLoader

    tiny_run.make_run(run_url)
    dataset = RGBDDataset(run_url, transform=to_arrays)
    assert dataset[0]["candidate"] == 0  # the connection is open before the workers start
    loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context=start)
    assert [c for batch in loader for c in batch["candidate"].tolist()] == CANDIDATES


def test_credentials_that_azure_refuses_are_one_clear_line_and_never_shown(
    azure, caplog, capsys, monkeypatch
):
    caplog.set_level(logging.INFO)
    url = f"{azure.new_bucket()}/run"
    store = whole_life(url)
    [(name, given)] = azure.environment.items()
    shown = [repr(store), store.url, *map(str, store.read_many(store.list()).values())]
    key = "c2VjcmV0IHRoYXQgd2FzIG9uY2UgcmlnaHQ="
    monkeypatch.setenv(name, azure.connection_string(key))
    type(store._connection.filesystem).clear_instance_cache()
    store = ObjectStore.open(url)
    for operation in operations(store):
        with pytest.raises(StoreRefusedError, match="renew the store's credentials") as info:
            operation()
        assert "\n" not in str(info.value)
        shown += traceback.format_exception(info.value)
    with pytest.raises(SystemExit):
        main(["status", url])
    shown += [caplog.text, *capsys.readouterr()]
    for secret in (given, given.split("AccountKey=")[1].split(";")[0], key):
        assert not [text for text in shown if secret in text]
