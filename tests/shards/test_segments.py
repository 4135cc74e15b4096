"""Segments say what the receipts and indexes say, or nothing: whatever befalls them."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import tiny_run
from hypothesis import given, settings
from hypothesis import strategies as st

from mfsynth.datasets import RGBDDataset
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.compaction import compact
from mfsynth.shards.finalize import finalize
from mfsynth.shards.gc import garbage
from mfsynth.shards.layout import SegmentName
from mfsynth.shards.reading import read_index
from mfsynth.shards.records import Receipt
from mfsynth.shards.segments import listed_segments, remove_segments_of
from mfsynth.shards.verify import verify_run
from mfsynth.storage.errors import StoreError
from mfsynth.storage.store import ObjectStore

SHARDS = 7
FIRSTS = {2: [0, 2, 4], 4: [0]}


@dataclass(frozen=True)
class Made:
    """A run with segments, and a second attempt at each of its shards, ready to be committed."""

    folder: Path
    spares: dict[int, Receipt]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("segments") / "run"
    store = tiny_run.make_run(str(folder), SHARDS)
    tiny_run.compact_all(store)
    spares = {shard: tiny_run.upload_shard(store, shard) for shard in range(SHARDS)}
    return Made(folder, spares)


@pytest.fixture
def store(made, tmp_path) -> ObjectStore:
    """A copy that a test may change."""
    return ObjectStore.open(shutil.copytree(made.folder, tmp_path / "run"))


def keys_of(store, kind=None, count=None, first=None):
    return sorted(
        name.key
        for name in listed_segments(store)
        if kind in (None, name.kind) and count in (None, name.count) and first in (None, name.first)
    )


def assert_readers_see_what_is_committed(store):
    one_by_one = read_commits(store, from_segments=False)
    receipts = read_commits(store)
    assert [*receipts.items()] == [*one_by_one.items()]
    index = read_index(store, receipts.values())
    rows = read_index(store, receipts.values(), from_segments=False)
    assert index.schema.equals(rows.schema, check_metadata=True)
    assert index.equals(rows)


def remake(store, receipt):
    """As the documentation says: delete the receipt, have the shard made again."""
    store.delete(layout.commit_key(receipt.shard))
    assert commit(store, receipt)


def keys_read(store, monkeypatch):
    """Keys that are read while readers read."""
    read: list[str] = []
    ordinary = ObjectStore.read_bytes

    def note(self, key):
        read.append(key)
        return ordinary(self, key)

    monkeypatch.setattr(ObjectStore, "read_bytes", note)
    read_index(store, read_commits(store).values())
    monkeypatch.undo()
    return read


# --- What is written, and read ---------------------------------------------------------------


def test_complete_ranges_have_segments_and_readers_read_little_else(store, monkeypatch):
    names = listed_segments(store)
    for kind in layout.SEGMENT_KINDS:
        for count, firsts in FIRSTS.items():
            assert sorted(n.first for n in names if (n.kind, n.count) == (kind, count)) == firsts
    read = keys_read(store, monkeypatch)
    assert_readers_see_what_is_committed(store)
    alone = read_commits(store)[SHARDS - 1]
    expected = {layout.RUN_KEY, layout.commit_key(alone.shard), alone.objects["index"].key}
    expected |= {*keys_of(store, count=4), *keys_of(store, count=2, first=4)}
    assert {*read} == expected
    assert len(read) == len(expected)
    assert verify_run(store).problems == ()


def test_names_of_segments_say_what_they_are():
    digest = "0123456789abcdef" * 4
    name = SegmentName("receipts", 1_024_000, 1024, digest)
    assert name.key == f"_segments/1024000-1024.{digest}.json"
    assert layout.parse_segment_key(name.key) == name
    index = SegmentName("index", 32, 32, digest)
    assert index.key == f"_segments/000032-0032.{digest}.parquet"
    assert layout.parse_segment_key(index.key) == index
    for other in (
        f"_segments/000033-0032.{digest}.json",
        f"_segments/000000-0000.{digest}.json",
        f"_segments/00000-0032.{digest}.json",
        f"_segments/000032-00032.{digest}.json",
        f"_segments/000032-0032.{digest[1:]}.json",
        f"_segments/000032-0032.{digest}.tar",
        f"_segments/.000032-0032.{digest}.json.00.part",
    ):
        assert layout.parse_segment_key(other) is None


def test_a_finalized_run_has_segments_of_thirty_two(tmp_path):
    store = tiny_run.make_run(str(tmp_path / "run"), 33)
    finalize(store)
    assert [(n.first, n.count) for n in listed_segments(store)] == [(0, 32)] * 2
    assert_readers_see_what_is_committed(store)
    assert verify_run(store).problems == ()
    before = [*store.list()]
    finalize(store)
    assert [*store.list()] == before


def test_runs_of_earlier_versions_get_none(tmp_path):
    folder = Path(__file__).parents[1] / "data" / "format1"
    store = ObjectStore.open(shutil.copytree(folder, tmp_path / "run"))
    finalize(store)
    assert not store.list(layout.SEGMENTS_FOLDER)


def test_what_can_not_be_compacted_is_told_and_the_rest_is_written(store):
    for key in keys_of(store):
        store.delete(key)
    receipts = read_commits(store)
    store.delete(receipts[1].objects["index"].key)
    done = dict(compact(store, receipts, sizes=tiny_run.SEGMENTS))
    assert "index/" in done.pop(range(0, 2))
    assert "no smaller segment covers shards 0, 1" in done.pop(range(0, 4))
    assert done == {range(2, 4): "", range(4, 6): ""}
    assert not [*compact(store, receipts, sizes=(2,), without={range(0, 2)})]


def test_several_writers_at_once_do_no_harm(store):
    for key in keys_of(store):
        store.delete(key)
    barrier = threading.Barrier(3)

    def write(_):
        barrier.wait(30)
        return [problem for _, problem in compact(store, range(SHARDS), sizes=(2, 4)) if problem]

    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(write, range(3))] == [[]] * 3
    assert_readers_see_what_is_committed(store)
    assert verify_run(store).problems == ()
    tiny_run.collect_all(store)
    assert [(n.first, n.count) for n in listed_segments(store)] == [(0, 4), (0, 4), (4, 2), (4, 2)]


# --- Shards that are made anew ---------------------------------------------------------------


def test_whoever_commits_a_shard_anew_removes_the_segments_that_cover_it(store, made):
    remake(store, made.spares[1])
    assert keys_of(store, first=0) == []
    assert len(keys_of(store)) == 4
    assert_readers_see_what_is_committed(store)
    assert verify_run(store).problems == ()
    tiny_run.compact_all(store)
    assert_readers_see_what_is_committed(store)
    assert len(keys_of(store)) == 8
    # Who finds a receipt removes nothing.
    assert not commit(store, replace(made.spares[1], attempt="late"))
    assert len(keys_of(store)) == 8


class Steps:
    """A store that does something before each of its operations."""

    def __init__(self, store, before):
        self._store, self._before = store, before

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if name not in ("read_bytes", "read_many", "entries", "put_bytes"):
            return found

        def step(*args):
            self._before()
            return found(*args)

        return step


@pytest.mark.parametrize("count", tiny_run.SEGMENTS)
def test_a_shard_that_is_made_anew_while_a_segment_is_written_is_read_as_it_is(
    made, tmp_path, count
):
    """At whatever three moments its receipt goes, its segments go, and the other receipt comes."""
    spare = made.spares[1]
    deeds = (
        lambda store: store.delete(layout.commit_key(1)),
        lambda store: remove_segments_of(store, 1),
        lambda store: store.create_if_absent(layout.commit_key(1), spare.to_json().encode()),
    )

    def write(store, moments):
        """Give the number of steps; after the last deed, readers look after each."""
        step, done = itertools.count(), [0]

        def before():
            now = next(step)
            while done[0] < len(moments) and moments[done[0]] == now:
                deeds[done[0]](store)
                done[0] += 1
            if done[0] == len(deeds):
                assert read_commits(store)[1] == spare

        for _ in compact(Steps(store, before), range(4), sizes=(2, 4)):
            pass
        assert_readers_see_what_is_committed(store)
        return next(step)

    def fresh(name):
        store = ObjectStore.open(shutil.copytree(made.folder, tmp_path / name))
        for key in keys_of(store):
            if count == 2 or layout.parse_segment_key(key).count == 4:
                store.delete(key)
        return store

    steps = write(fresh("whole"), ())
    triples = [*itertools.combinations_with_replacement(range(steps), 3)]
    for number, moments in enumerate(triples[:: max(1, len(triples) // 60)]):
        write(fresh(str(number)), moments)
        shutil.rmtree(tmp_path / str(number))


# --- Whatever befalls them -------------------------------------------------------------------

FATES = ("stays", "goes", "flipped", "cut", "empty", "of another run")


@settings(deadline=None, max_examples=60)
@given(
    missing=st.sets(st.integers(0, SHARDS - 1)),
    remade=st.sets(st.integers(0, SHARDS - 1)),
    fates=st.lists(st.sampled_from(FATES), min_size=8, max_size=8),
    again=st.booleans(),
)
def test_readers_see_the_same_with_any_segments_as_with_none(made, missing, remade, fates, again):
    with tempfile.TemporaryDirectory() as folder:
        store = ObjectStore.open(shutil.copytree(made.folder, Path(folder) / "run"))
        for key, fate in zip(keys_of(store), fates, strict=True):
            befall(store, key, fate)
        for shard in sorted(remade):
            remake(store, made.spares[shard])
        if again:
            [*compact(store, range(SHARDS), sizes=tiny_run.SEGMENTS)]
        for shard in missing:
            store.delete(layout.commit_key(shard))
        assert_readers_see_what_is_committed(store)


def befall(store, key, fate):
    data = store.read_bytes(key)
    if fate == "goes":
        store.delete(key)
    if fate == "flipped":
        at = len(data) // 3
        store.put_bytes(key, data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    if fate == "cut":
        store.put_bytes(key, data[:-7])
    if fate == "empty":
        store.put_bytes(key, b"")
    if fate == "of another run" and key.endswith(".json"):
        put_document(store, key, run_sha256="0" * 64)


def put_document(store, key, **changes):
    """The document of a segment with changes, under the name that it then has; gives its key."""
    document = json.loads(store.read_bytes(key))
    document.update(changes)
    data = json.dumps(document).encode()
    name = layout.parse_segment_key(key)
    store.delete(key)
    changed = replace(name, sha256=hashlib.sha256(data).hexdigest())
    store.put_bytes(changed.key, data)
    return changed.key


@pytest.mark.parametrize(
    "changes",
    [
        {"first": 4},
        {"count": 3},
        {"receipts": []},
        {"receipts": "1234"},
        {"receipts": [1, 2, 3, 4]},
        {"receipts": ["{}"] * 4},
        {"receipts": ["x" * 100_000] * 4},
        {"run_sha256": None},
        {"index": None},
        {"index": {"key": "../other/x.parquet", "size": 1, "sha256": "0" * 64, "rows": 1}},
        {"index": {"key": 3, "size": 1, "sha256": [], "rows": True}},
    ],
    ids=str,
)
def test_a_document_that_makes_no_sense_is_named_by_verify_and_read_by_nobody(
    store, changes, caplog
):
    key = put_document(store, *keys_of(store, "receipts", 4), **changes)
    with caplog.at_level(logging.WARNING):
        assert_readers_see_what_is_committed(store)
    [line] = [record.getMessage() for record in caplog.records]
    assert key in line
    assert "\n" not in line
    [problem] = verify_run(store).problems
    assert key in problem
    assert "\n" not in problem
    assert len(problem) < 1000


def test_a_receipt_that_was_changed_in_place_is_named_by_verify(store):
    key = layout.commit_key(5)
    store.put_bytes(key, store.read_bytes(key).replace(b'"here"', b'"gone"'))
    [problem] = verify_run(store, deep=False).problems
    assert keys_of(store, "receipts", 2, 4)[0] in problem
    assert "has another receipt of shard 5" in problem


def test_segments_of_a_missing_receipt_are_stale(store):
    store.delete(layout.commit_key(6))
    assert verify_run(store).problems == ()
    store.delete(layout.commit_key(5))
    [problem] = verify_run(store).problems
    assert "covers shard 5, which is not committed" in problem
    assert_readers_see_what_is_committed(store)


@pytest.mark.parametrize("harm", ["dead link", "no right to list", "endless name"])
def test_a_folder_of_segments_that_can_not_be_read_stops_no_reader(store, monkeypatch, harm):
    folder = store.local_root / layout.SEGMENTS_FOLDER
    if harm == "dead link":
        (folder / "x.json").symlink_to("nowhere")
    if harm == "endless name":
        store.put_bytes(SegmentName("receipts", 0, 10**17, "0" * 64).key, b"{}")
        store.put_bytes(SegmentName("index", 0, 10**17, "0" * 64).key, b"{}")
        assert not [*compact(store, range(SHARDS), sizes=tiny_run.SEGMENTS)]
    if harm == "no right to list":
        ordinary = ObjectStore.entries

        def refuse(self, prefix=""):
            if prefix == layout.SEGMENTS_FOLDER:
                raise StoreError(f"can't list {prefix}")
            return ordinary(self, prefix)

        monkeypatch.setattr(ObjectStore, "entries", refuse)
    assert_readers_see_what_is_committed(store)
    assert len(RGBDDataset(store.url)) == len(read_index(store, read_commits(store).values()))


# --- gc --------------------------------------------------------------------------------------


def test_gc_removes_what_is_covered_twice_half_written_damaged_or_stale(store, made):
    spares = {stored.key for r in made.spares.values() for stored in r.objects.values()}
    covered = {key for first in (0, 2) for key in keys_of(store, count=2, first=first)}
    assert {entry.key for entry in garbage(store, timedelta())} == covered | spares
    half = SegmentName("index", 4, 2, "0" * 64).key
    store.put_bytes(half, b"half")
    part = f"{layout.SEGMENTS_FOLDER}/.000004-0002.{'0' * 64}.json.00.part"
    store.put_bytes(part, b"half")
    [damaged] = keys_of(store, "receipts", 4)
    befall(store, damaged, "flipped")
    rows = keys_of(store, "index", 4)
    left = {entry.key for entry in garbage(store, timedelta())}
    assert left == {half, part, damaged, *rows} | spares
    tiny_run.collect_all(store)
    assert_readers_see_what_is_committed(store)
    assert verify_run(store).problems == ()
    # What is lacking is written again, and then the small ones are garbage.
    tiny_run.compact_all(store)
    tiny_run.collect_all(store)
    assert [n.count for n in listed_segments(store)] == [4, 4, 2, 2]
    before = [*store.list()]
    tiny_run.compact_all(store)
    assert [*store.list()] == before


def test_gc_takes_no_segments_word(store, made):
    """A receipt that no one can read is not made up for by a segment that has it."""
    store.put_bytes(layout.commit_key(1), made.spares[1].to_json().encode())
    left = {entry.key for entry in garbage(store, timedelta())}
    assert not left & {stored.key for stored in made.spares[1].objects.values()}
    assert {*keys_of(store, count=4)} <= left
