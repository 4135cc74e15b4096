"""Large indexes come out of a cache, whole or not at all, and are sent to workers by name."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset, mapped, parts
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import commit
from mfsynth.shards.refilter import refilter
from mfsynth.shards.run_manifest import run_sha256
from mfsynth.shards.views import Bound, Rules
from mfsynth.storage.exclusive import PART_SUFFIX
from mfsynth.storage.local_cache import cache_folder

STRICT = Rules({"registration": Bound(4.0, is_minimum=True)})


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
    old = [path.with_name(name) for name in ("old.arrow", "old.crc32", "alone.crc32")]
    for each in (*old, path, path.with_suffix(".crc32")):
        if each in old:
            each.write_bytes(b"")
        os.utime(each, (time.time() - 100 * 24 * 3600,) * 2)
    # This use counts for its checksum, too.
    RGBDDataset(run_store.url)
    commit(run_store, tiny_run.upload_shard(run_store, 3))
    RGBDDataset(run_store.url)
    assert sorted(p.suffix for p in cache.iterdir()) == [".arrow", ".arrow", ".crc32", ".crc32"]
    assert path.exists()
    assert not any(each.exists() for each in old)


def test_of_too_many_the_least_used_go_but_none_that_is_in_use(cache, run_store, monkeypatch):
    """Of seven states of a run the first is open all the time, and the third was used again."""

    def grown(shard):
        commit(run_store, tiny_run.upload_shard(run_store, shard))
        return RGBDDataset(run_store.url)

    def age(hours):
        for path in cache.glob("*.arrow"):
            status = path.stat()
            os.utime(path, (status.st_mtime - 3600 * hours,) * 2)

    opened = RGBDDataset(run_store.url)
    [in_use] = cache.glob("*.arrow")
    kept = [in_use]
    for shard in range(3, 8):
        age(1)
        before = {*cache.glob("*.arrow")}
        grown(shard)
        kept += {*cache.glob("*.arrow")} - before
    os.utime(kept[2])
    # Room for four: one that is used, and of the others those that were used last.
    sizes = [path.stat().st_size for path in (kept[0], kept[2], kept[5])]
    monkeypatch.setattr(mapped, "_MOST_BYTES", sum(sizes) + 2 * max(sizes))
    age(1)
    grown(8)
    left = {*cache.glob("*.arrow")}
    assert {kept[0], kept[2], kept[5]} < left
    assert not {kept[1], kept[3], kept[4]} & left
    assert {path.with_suffix(".crc32") for path in left} == {*cache.glob("*.crc32")}
    assert candidates(pickle.loads(pickle.dumps(opened))) == [0, 1, 2, 3, 6, 7, 8, 9]
    # The file is in use as long as it is mapped, also by others.
    code = (
        "import pickle, sys; dataset = pickle.load(sys.stdin.buffer); print(1, flush=True); "
        "sys.stdin.buffer.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        pickle.dump(opened, other.stdin)
        other.stdin.flush()
        assert other.stdout.readline() == b"1\n"
        del opened
        monkeypatch.setattr(mapped, "_MOST_BYTES", 0)
        grown(9)
        assert kept[0].exists()
        other.stdin.close()
    grown(10)
    assert not kept[0].exists()


def test_without_locks_only_what_is_old_is_forgotten(cache, run_store, monkeypatch):
    def flock(descriptor, how):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(mapped, "_MOST_BYTES", 0)
    RGBDDataset(run_store.url)
    [young] = cache.glob("*.arrow")
    old = young.with_name("old.arrow")
    old.write_bytes(b"")
    os.utime(old, (time.time() - 100 * 24 * 3600,) * 2)
    commit(run_store, tiny_run.upload_shard(run_store, 3))
    RGBDDataset(run_store.url)
    assert (young.exists(), old.exists()) == (True, False)


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


def test_workers_are_sent_the_name_of_a_views_index(cache, run_store, monkeypatch):
    refilter(run_store, "strict", STRICT)
    first = RGBDDataset(run_store.url, view="strict")
    assert first.index["returned"].to_pylist() == [False] * 6
    [path] = cache.glob("*.arrow")
    monkeypatch.setattr(parts, "view_rows", None)
    again = RGBDDataset(run_store.url, view="strict")
    assert again.index.equals(first.index)
    sent = pickle.dumps(again)
    assert str(path).encode() in sent
    assert b"a red cube, number" not in sent
    assert candidates(pickle.loads(sent)) == candidates(first) == [2, 3, 6, 7, 8, 9]


def test_a_view_that_was_made_anew_has_another_index(cache, run_store):
    refilter(run_store, "strict", STRICT)
    assert len(RGBDDataset(run_store.url, view="strict")) == 6
    commit(run_store, tiny_run.upload_shard(run_store, 3))
    assert len(RGBDDataset(run_store.url, view="strict")) == 6
    refilter(run_store, "strict", STRICT, replace=True)
    assert len(RGBDDataset(run_store.url, view="strict")) == 10


def test_a_mapped_view_of_other_shards_is_refused(cache, run_store):
    refilter(run_store, "strict", STRICT)
    assert len(RGBDDataset(run_store.url, view="strict")) == 6
    (run_store.local_root / layout.commit_key(1)).unlink()
    others = [tiny_run.make_sample(candidate, height=16) for candidate in range(6, 12)]
    commit(run_store, tiny_run.upload_shard(run_store, 1, others))
    with pytest.raises(MfsynthError, match=r"strict.*made of other shards than are committed"):
        RGBDDataset(run_store.url, view="strict")


def test_shards_of_other_columns_are_one_line(cache, run_store):
    commit(run_store, tiny_run.upload_shard(run_store, 3))
    declared = replace(tiny_run.DECLARED, added=("phash",))
    with tiny_run.open_spool(4, run_sha256=run_sha256(run_store), declared=declared) as spool:
        for record in tiny_run.make_records(4):
            spool.add(record)
        spool.close()
        commit(run_store, spool.upload(run_store, seconds={}, worker="here"))
    with pytest.raises(MfsynthError, match="columns of shard 4 are not those of the first"):
        RGBDDataset(run_store.url)


def test_workers_are_sent_the_names_of_the_indexes_of_several_runs(cache, run_store, tmp_path):
    other = tiny_run.make_other(str(tmp_path / "other"))
    both = RGBDDataset([run_store.url, other.url])
    sent = pickle.dumps(both)
    for path in cache.glob("*.arrow"):
        assert str(path).encode() in sent
    assert b"a red cube, number" not in sent
    again = pickle.loads(sent)
    assert again.index.equals(both.index)
    assert again.index["slot_room"].to_pylist() == [None] * 8 + [["kitchen"]] * 4
    assert candidates(again) == [0, 1, 2, 3, 6, 7, 8, 9, 0, 1, 2, 3]
    assert again[8].depth.shape == (16, 16)


def test_what_a_killed_process_left_in_the_cache_is_removed(cache, run_store):
    cache.mkdir(parents=True)
    left, lives = (cache / f".{name}.arrow.0a0b{PART_SUFFIX}" for name in ("left", "lives"))
    for path in (left, lives):
        path.write_bytes(b"half")
    os.utime(left, (time.time() - 7200,) * 2)
    RGBDDataset(run_store.url)
    assert (left.exists(), lives.exists()) == (False, True)
