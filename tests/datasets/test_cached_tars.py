"""Tars of remote stores come out of a cache that has a limit, and never a wrong or lost pair."""

from __future__ import annotations

import errno
import math
import os
import pickle
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import tiny_run

from mfsynth.cli import main
from mfsynth.datasets import RGBDDataset, open_dataset
from mfsynth.datasets.exports.exporting import export
from mfsynth.datasets.exports.pairs import Pairs
from mfsynth.datasets.exports.pushing import Folder, plan, push
from mfsynth.datasets.exports.registry import open_exporter
from mfsynth.errors import MfsynthError
from mfsynth.shards.commits import read_commits
from mfsynth.storage import atomic
from mfsynth.storage.errors import StoreRefusedError
from mfsynth.storage.exclusive import PART_SUFFIX
from mfsynth.storage.local_cache import LocalCache
from mfsynth.storage.store import ObjectStore


def candidates(dataset) -> list[int]:
    return [sample.candidate for sample in dataset]


def test_tars_of_a_store_are_kept_and_read_there_only_once(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("MFSYNTH_CACHE", str(tmp_path / "cache"))
    store = tiny_run.make_run(f"{s3.new_bucket()}/run")
    dataset = RGBDDataset(store.url, cache_bytes=10**9)
    assert candidates(dataset) == [0, 1, 2, 3, 6, 7, 8, 9]
    tars = [r.objects["tar"] for r in read_commits(store).values() if r.accepted]
    kept = {path.name for path in (tmp_path / "cache" / "tars").iterdir()}
    assert kept == {f"{tar.sha256}.tar" for tar in tars}
    for tar in tars:
        store.delete(tar.key)
    assert candidates(dataset) == candidates(pickle.loads(pickle.dumps(dataset)))
    # Another process finds them, too.
    code = (
        "import sys; from mfsynth.datasets import RGBDDataset\n"
        "print([s.candidate for s in RGBDDataset(sys.argv[1], cache_bytes=10**9)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store.url], check=True, capture_output=True, text=True
    )
    assert done.stdout == "[0, 1, 2, 3, 6, 7, 8, 9]\n"


def test_a_tar_that_is_not_that_of_its_receipt_is_not_kept(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("MFSYNTH_CACHE", str(tmp_path / "cache"))
    store = tiny_run.make_run(f"{s3.new_bucket()}/run", 1)
    [receipt] = read_commits(store).values()
    key = receipt.objects["tar"].key
    store.put_bytes(key, store.read_bytes(key)[:-1] + b"x")
    with pytest.raises(MfsynthError, match=f"{key}: its bytes changed"):
        RGBDDataset(store.url, cache_bytes=10**9)[0]
    assert not [*(tmp_path / "cache" / "tars").iterdir()]


def test_neighbours_in_a_store_are_read_at_once(s3, tmp_path):
    store = tiny_run.make_run(f"{s3.new_bucket()}/run")
    dataset = RGBDDataset(store.url)
    before = s3.requests.total()
    found = dataset.load(range(8))
    assert [sample.candidate for sample in found] == [0, 1, 2, 3, 6, 7, 8, 9]
    assert s3.requests.total() - before == 2


def test_a_cached_tar_that_was_damaged_is_fetched_again(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("MFSYNTH_CACHE", str(tmp_path / "cache"))
    store = tiny_run.make_run(f"{s3.new_bucket()}/run", 1)
    assert len([*RGBDDataset(store.url, cache_bytes=10**9)]) == 4
    [kept] = (tmp_path / "cache" / "tars").iterdir()
    whole = kept.read_bytes()
    offset = RGBDDataset(store.url).index.column("rgb_offset")[2].as_py()
    kept.write_bytes(whole[: offset + 99] + bytes([whole[offset + 99] ^ 8]) + whole[offset + 100 :])
    assert candidates(RGBDDataset(store.url, cache_bytes=10**9)) == [0, 1, 2, 3]
    assert kept.read_bytes() == whole


class Requests(Counter):
    """What is asked of a store: whole objects, and ranges of them, by key."""

    def __init__(self, monkeypatch) -> None:
        super().__init__()
        whole, part = ObjectStore.local_copy, ObjectStore.read_range

        def local_copy(store, key):
            self["whole", key] += 1
            return whole(store, key)

        def read_range(store, key, start, length):
            self["part", key] += 1
            return part(store, key, start, length)

        monkeypatch.setattr(ObjectStore, "local_copy", local_copy)
        monkeypatch.setattr(ObjectStore, "read_range", read_range)


@pytest.fixture
def tars(tmp_path, monkeypatch):
    """A run in a remote store, and the objects of its tars."""
    monkeypatch.setenv("MFSYNTH_CACHE", str(tmp_path / "cache"))
    store = tiny_run.make_run(f"memory://{uuid.uuid4().hex}/run")
    return store, [r.objects["tar"] for r in read_commits(store).values() if r.accepted]


def test_what_exports_pushes_and_views_read_is_a_request_for_neighbours(
    tars, monkeypatch, tmp_path
):
    store, objects = tars
    requests = Requests(monkeypatch)
    once = {("part", each.key): 1 for each in objects}
    pairs = Pairs(RGBDDataset(store.url))
    export(pairs, "folder", open_exporter("folder"), tmp_path / "out")
    assert requests == once
    requests.clear()
    place = Folder(tmp_path / "pushed")
    push(pairs, place, plan(pairs, place, view=None, condition=None))
    assert requests == once
    requests.clear()
    with pytest.raises(SystemExit):
        main(["view", store.url, "--save", str(tmp_path / "pairs.rrd")])
    assert requests == once
    assert [frame.sample.candidate for frame in pairs.frames([5, 0, 1])] == [7, 0, 1]


def test_of_a_cache_smaller_than_one_tar_only_ranges_are_read(tars, monkeypatch):
    store, objects = tars
    requests = Requests(monkeypatch)
    dataset = RGBDDataset(store.url, cache_bytes=1)
    for _ in range(2):
        assert candidates(dataset) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert requests == {("part", each.key): 8 for each in objects}


def test_what_finds_no_room_is_read_in_ranges_and_makes_nothing_go(tars, monkeypatch, tmp_path):
    monkeypatch.setattr("mfsynth.datasets.ranges._MAX_OPEN_FILES", 1)
    store, (first, second) = tars
    requests = Requests(monkeypatch)
    dataset = RGBDDataset(store.url, cache_bytes=max(first.size, second.size))
    for _ in range(5):
        assert [dataset[i].candidate for i in (0, 4, 1, 5)] == [0, 6, 1, 7]
    assert requests == {("whole", first.key): 1, ("part", second.key): 10}
    assert [path.name for path in (tmp_path / "cache" / "tars").iterdir()] == [
        f"{first.sha256}.tar"
    ]


def test_threads_fetch_a_tar_once(tars, monkeypatch):
    store, objects = tars
    requests = Requests(monkeypatch)
    dataset = RGBDDataset(store.url, cache_bytes=10**9)
    together = Barrier(4)

    def read(_: int) -> list[int]:
        together.wait(60)
        return candidates(dataset)

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(read, range(4))] == [[0, 1, 2, 3, 6, 7, 8, 9]] * 4
    assert requests == {("whole", each.key): 1 for each in objects}


def test_a_full_disk_costs_the_cache_and_not_the_training(tars, monkeypatch):
    store, _ = tars
    requests = Requests(monkeypatch)

    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mfsynth.datasets.ranges.shutil.copyfile", full)
    dataset = RGBDDataset(store.url, cache_bytes=10**9)
    assert candidates(dataset) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert sum(n for (what, _), n in requests.items() if what == "whole") == 1


def test_a_cache_that_is_too_small_is_slow_and_never_a_damaged_run(tmp_path):
    """Each file makes the others go, while threads are about to open them."""
    cache = LocalCache(tmp_path / "cache", 100, since=math.inf)

    def read(number: int) -> bool:
        name = str(number % 3)
        descriptor = cache.find(name)
        if descriptor is None:
            descriptor = cache.keep(name, 99, lambda path: atomic.replace(path, name.encode() * 99))
        assert descriptor is not None
        try:
            return os.read(descriptor, 200) == name.encode() * 99
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(200)))


def test_the_cache_keeps_to_its_limit_and_what_was_used_last(tmp_path):
    """A small one, which other data sets have filled before."""
    cache = LocalCache(tmp_path / "cache", 250)
    cache.folder.mkdir()

    def fetched(name: str) -> bool:
        descriptor = cache.find(name)
        found = descriptor is not None
        if descriptor is None:
            descriptor = cache.keep(name, 100, lambda path: path.write_bytes(bytes(100)))
        assert descriptor is not None
        os.close(descriptor)
        for age, path in enumerate(sorted(cache.folder.iterdir(), key=os.path.getmtime)):
            os.utime(path, (1000 + age,) * 2)
        return not found

    assert [fetched(name) for name in "ababcab"] == [1, 1, 0, 0, 1, 1, 1]
    assert len([*cache.folder.iterdir()]) == 2
    assert cache.keep("large", 251, lambda path: pytest.fail("it has no room")) is None


@pytest.mark.parametrize("size", [-1, 0.5, float("nan"), True, "50GB", None])
@pytest.mark.parametrize("source", ["run", {"run": 1}])
def test_a_size_that_is_none_is_one_line(size, source):
    with pytest.raises(MfsynthError, match=r"^cache_bytes is .*; give a whole number of bytes, "):
        open_dataset(source, cache_bytes=size)


def test_what_killed_fetches_left_is_removed_and_takes_no_room(tmp_path):
    cache = LocalCache(tmp_path / "cache", 100)
    cache.folder.mkdir()
    left, lives = (cache.folder / f".{name}.0a0b{PART_SUFFIX}" for name in ("left", "lives"))
    for path in (left, lives):
        path.write_bytes(bytes(99))
    os.utime(left, (time.time() - 7200,) * 2)
    descriptor = cache.keep("new", 100, lambda path: path.write_bytes(bytes(100)))
    assert descriptor is not None
    os.close(descriptor)
    assert (left.exists(), lives.exists()) == (False, True)


def broken(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def no_folder(cache, monkeypatch):
    shutil.rmtree(cache)


def unreadable_file(cache, monkeypatch):
    for path in cache.iterdir():
        path.unlink()
        path.symlink_to(path.name)


def disk_fails_to_write(cache, monkeypatch):
    shutil.rmtree(cache)
    monkeypatch.setattr("mfsynth.datasets.ranges.shutil.copyfile", broken)


def folder_is_a_file(cache, monkeypatch):
    shutil.rmtree(cache)
    cache.write_bytes(b"")


def disk_fails_to_read(cache, monkeypatch):
    monkeypatch.setattr("mfsynth.datasets.ranges.os.preadv", broken)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (unreadable_file, "Too many levels of symbolic links"),
        (disk_fails_to_write, "Input/output error"),
        (folder_is_a_file, "Not a directory"),
        (disk_fails_to_read, "Input/output error"),
        (no_folder, ""),
    ],
)
def test_a_broken_cache_is_told_once_and_is_no_damaged_run(
    tars, monkeypatch, tmp_path, caplog, trouble, reason
):
    store, objects = tars
    RGBDDataset(store.url, cache_bytes=10**9)[0]
    dataset = RGBDDataset(store.url, cache_bytes=10**9)
    trouble(tmp_path / "cache" / "tars", monkeypatch)
    for _ in range(2):
        assert candidates(dataset) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert [reason in record.getMessage() for record in caplog.records] == [True] * bool(reason)
    # What the store lacks is told as such, whatever the cache is.
    for each in objects:
        store.delete(each.key)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    with pytest.raises(MfsynthError, match="it is missing"):
        RGBDDataset(store.url, cache_bytes=10**9)[0]


def test_a_cache_that_nobody_may_write_is_read_all_the_same(tars, monkeypatch):
    store, _ = tars
    assert len([*RGBDDataset(store.url, cache_bytes=10**9)]) == 8
    requests = Requests(monkeypatch)
    monkeypatch.setattr("mfsynth.storage.local_cache.os.utime", broken)
    assert candidates(RGBDDataset(store.url, cache_bytes=10**9)) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert not requests


def test_a_cache_without_a_folder_is_told(tars, monkeypatch, tmp_path, caplog):
    store, _ = tars
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("MFSYNTH_CACHE", str(tmp_path / "file"))
    assert len(RGBDDataset(store.url, cache_bytes=10**9)) == 8
    [record] = caplog.records
    assert "there is no folder to keep them in" in record.getMessage()


def test_an_error_of_a_store_names_the_pair(tars, monkeypatch):
    store, _ = tars
    dataset = RGBDDataset(store.url)

    def refused(*_: object) -> bytes:
        raise StoreRefusedError(f"can't read {store.url}: Access Denied")

    monkeypatch.setattr(ObjectStore, "read_range", refused)
    sample_id = dataset.index["sample_id"][5].as_py()
    with pytest.raises(StoreRefusedError, match=f"^{sample_id}: can't read .*: Access Denied$"):
        dataset[5]


def test_a_range_that_was_spoilt_on_the_way_is_asked_for_again(tars, monkeypatch):
    store, _ = tars
    dataset = RGBDDataset(store.url)
    whole = ObjectStore.read_range
    asked = []

    def read_range(store, key, start, length):
        asked.append(start)
        data = whole(store, key, start, length)
        return data if len(asked) > 1 else data[:99] + bytes([data[99] ^ 8]) + data[100:]

    monkeypatch.setattr(ObjectStore, "read_range", read_range)
    assert dataset[2].candidate == 2
    assert len(asked) == 2
