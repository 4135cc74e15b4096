"""Large indexes come out of a cache, whole or not at all; tars of remote stores, too."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset, mapped, parts
from mfsynth.errors import MfsynthError
from mfsynth.shards.commits import commit, read_commits
from mfsynth.storage import atomic
from mfsynth.storage.local_cache import LocalCache, cache_folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where indexes of any size are kept; their run has two groups of shards."""
    monkeypatch.setenv("MFSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(parts, "MIN_ROWS", 1)
    whole = mapped.groups
    monkeypatch.setattr(parts, "groups", lambda shards: whole(shards, 2))
    return tmp_path / "cache" / "indexes"


def candidates(dataset) -> list[int]:
    return [sample.candidate for sample in dataset]


def test_a_large_index_is_made_once_and_then_mapped(cache, run_store, monkeypatch):
    plain = RGBDDataset(run_store.url)
    first = plain.index
    [path] = cache.glob("*.arrow")
    monkeypatch.setattr(parts, "read_index", None)
    again = RGBDDataset(run_store.url)
    assert again.index.equals(first)
    assert candidates(again) == candidates(plain) == [0, 1, 2, 3, 6, 7, 8, 9]
    # What another process is sent is a name.
    sent = pickle.dumps(again)
    assert str(path).encode() in sent
    assert b"a red cube, number" not in sent
    assert candidates(pickle.loads(sent)) == candidates(again)
    path.unlink()
    assert candidates(pickle.loads(pickle.dumps(again))) == candidates(again)


def test_a_run_that_grew_has_another_index(cache, run_store):
    assert len(RGBDDataset(run_store.url)) == 8
    assert commit(run_store, tiny_run.upload_shard(run_store, 3))
    assert len(RGBDDataset(run_store.url)) == 12
    assert len([*cache.glob("*.arrow")]) == 2


@pytest.mark.parametrize("damage", ["a flipped bit", "cut off", "no checksum"])
def test_a_damaged_file_of_the_cache_is_made_anew(cache, run_store, damage):
    first = RGBDDataset(run_store.url).index
    [path] = cache.glob("*.arrow")
    good = path.read_bytes()
    if damage == "a flipped bit":
        path.write_bytes(good[:1000] + bytes([good[1000] ^ 4]) + good[1001:])
    elif damage == "cut off":
        path.write_bytes(good[:-10])
    else:
        path.with_suffix(".crc32").unlink()
    assert RGBDDataset(run_store.url).index.equals(first)
    assert path.read_bytes() == good


def test_without_a_place_for_it_the_index_is_in_memory(cache, run_store, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MFSYNTH_CACHE", str(tmp_path / "file"))
    assert cache_folder("indexes") is None
    assert candidates(RGBDDataset(run_store.url)) == [0, 1, 2, 3, 6, 7, 8, 9]
    monkeypatch.delenv("MFSYNTH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/1/nowhere")
    assert cache_folder("indexes") is None


def test_what_was_not_used_for_months_is_forgotten(cache, run_store):
    RGBDDataset(run_store.url)
    [path] = cache.glob("*.arrow")
    old = path.with_name("old.arrow")
    old.write_bytes(b"")
    os.utime(old, (time.time() - 100 * 24 * 3600,) * 2)
    commit(run_store, tiny_run.upload_shard(run_store, 3))
    RGBDDataset(run_store.url)
    assert path.exists()
    assert not old.exists()


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


def test_a_folder_that_others_may_write_is_no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MFSYNTH_CACHE", str(tmp_path / "shared"))
    before = os.umask(0o002)
    try:
        assert cache_folder("indexes") is not None
    finally:
        os.umask(before)
    for folder in (tmp_path / "shared", tmp_path / "shared" / "indexes"):
        folder.chmod(0o777)
        assert cache_folder("indexes") is None
        folder.chmod(0o700)
    assert cache_folder("indexes") is not None


def test_a_cache_that_is_too_small_is_slow_and_never_a_damaged_run(tmp_path):
    """Each file makes the others go, while threads are about to open them."""
    cache = LocalCache(tmp_path / "cache", 100)

    def read(number: int) -> bool:
        name = str(number % 3)
        descriptor = cache.open(name, lambda path: atomic.replace(path, name.encode() * 99))
        try:
            return os.read(descriptor, 200) == name.encode() * 99
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(200)))


def test_the_cache_keeps_to_its_limit_and_what_was_used_last(tmp_path):
    cache = LocalCache(tmp_path / "cache", 250)

    def fetched(name: str) -> bool:
        done = []
        os.close(cache.open(name, lambda path: (path.write_bytes(bytes(100)), done.append(1))))
        for age, path in enumerate(sorted(cache.folder.iterdir(), key=os.path.getmtime)):
            os.utime(path, (1000 + age,) * 2)
        return bool(done)

    assert [fetched(name) for name in "ababcab"] == [1, 1, 0, 0, 1, 1, 1]
    assert len([*cache.folder.iterdir()]) == 2
    os.close(LocalCache(tmp_path / "cache", 1).open("large", lambda p: p.write_bytes(bytes(999))))
    assert [path.name for path in cache.folder.iterdir()] == ["large"]
