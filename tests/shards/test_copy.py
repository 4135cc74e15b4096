"""A copy is the run, or says that it is not: interrupted, damaged, mixed up, in a wrong place."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.copy import copy_run
from mfsynth.shards.drivers import beat, note_progress
from mfsynth.shards.finalize import finalize
from mfsynth.shards.gc import collect
from mfsynth.shards.run_manifest import open_run
from mfsynth.shards.status import run_status
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore

FIRST = Path(__file__).parents[1] / "data" / "format1"


@pytest.fixture
def target(tmp_path) -> ObjectStore:
    """An empty place for a copy."""
    return ObjectStore.open(tmp_path / "copy")


def stored(store: ObjectStore) -> dict[str, bytes]:
    return {key: store.read_bytes(key) for key in store.list()}


def refuses(source, target, match):
    before = stored(source), stored(target)
    with pytest.raises(MfsynthError, match=match) as info:
        copy_run(source, target)
    assert "\n" not in str(info.value)
    assert (stored(source), stored(target)) == before


def object_of(store, shard=1, kind="tar"):
    return read_commits(store)[shard].objects[kind]


def change(store, key, data):
    """Another file in its place, so that copies and links of the old one stay as they are."""
    store.delete(key)
    store.put_bytes(key, data)


@pytest.mark.parametrize("version", [1, 2])
def test_a_run_goes_to_s3_and_comes_back_byte_for_byte(s3, run_store, target, tmp_path, version):
    if version == 1:
        shutil.copytree(FIRST, tmp_path / "first")
        run_store = ObjectStore.open(tmp_path / "first")
    note_progress(run_store, len(read_commits(run_store)))
    finalize(run_store)
    whole = stored(run_store)
    # What no receipt names is not the run's.
    if version == 2:
        tiny_run.upload_shard(run_store, 1)
        collect(run_store, timedelta())
        run_store.put_bytes("index/.x.part", b"half")
    run_store.put_bytes(layout.new_heartbeat(), b"{}")
    afar = ObjectStore.open(f"{s3.new_bucket()}/a run [1]")
    for source, place in ((run_store, afar), (afar, target)):
        done = copy_run(source, place)
        assert (done.brought, done.left_out) == (done.shards, ())
        assert stored(place) == whole
        assert verify_run(place).problems == ()
    assert len(RGBDDataset(target.url)) == done.pairs > 0


def test_shards_that_are_there_are_not_copied_again(run_store, target):
    assert copy_run(run_store, target).brought == 3
    path = target.local_root / object_of(target).key
    times = {key: (target.local_root / key).stat().st_mtime_ns for key in target.list()}
    done = copy_run(run_store, target)
    assert (done.shards, done.pairs, done.brought) == (3, 8, 0)
    assert {key: (target.local_root / key).stat().st_mtime_ns for key in target.list()} == times
    # The help says that of these the bytes are not compared, but by `verify`.
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    assert copy_run(run_store, target).brought == 0
    assert any("SHA-256 differs" in line for line in verify_run(target).problems)
    # Nor is a shard whose objects are gone or cut off there at all.
    path.write_bytes(data[:-1])
    (target.local_root / object_of(target, 2, "index").key).unlink()
    assert copy_run(run_store, target).brought == 2
    assert stored(target) == stored(run_store) | {layout.PROGRESS_KEY: b'{"shards": 3}\n'}


def test_what_a_run_has_made_since_is_brought(run_store, target):
    copy_run(run_store, target)
    commit(run_store, tiny_run.upload_shard(run_store, 3))
    done = copy_run(run_store, target)
    assert (done.shards, done.brought) == (4, 1)
    assert tiny_run.contents(target) == tiny_run.contents(run_store)
    assert verify_run(target).problems == ()
    # An earlier copy, the other way round, has nothing to add.
    assert copy_run(target, run_store).brought == 0


@pytest.mark.parametrize("damage", ["flipped", "cut off", "half", None])
def test_objects_without_a_receipt_are_compared_and_copied_anew_if_they_differ(
    run_store, target, damage
):
    copy_run(run_store, target)
    found = object_of(target)
    target.delete(layout.commit_key(1))
    data = bytearray(target.read_bytes(found.key))
    data[-1] ^= 1 if damage == "flipped" else 0
    change(target, found.key, bytes(data[:-1] if damage == "cut off" else data))
    if damage == "half":
        target.delete(found.key)
    before = (target.local_root / object_of(run_store, kind="index").key).stat().st_mtime_ns
    assert copy_run(run_store, target).brought == 1
    assert verify_run(target).problems == ()
    # The sound one was left alone.
    index = target.local_root / object_of(target, kind="index").key
    assert index.stat().st_mtime_ns == before


@pytest.mark.parametrize("kind", layout.OBJECT_KINDS)
@pytest.mark.parametrize("damage", ["flipped", "cut off", "missing"])
@pytest.mark.parametrize("afar", [False, True])
def test_a_damaged_object_is_named_and_does_not_arrive(tmp_path, target, kind, damage, afar):
    place = f"memory://{tmp_path.name}/run" if afar else str(tmp_path / "the run")
    source = tiny_run.make_run(place)
    finalize(source)
    found = object_of(source, kind=kind)
    data = bytearray(source.read_bytes(found.key))
    data[300] ^= 4
    source.delete(found.key)
    if damage != "missing":
        source.put_bytes(found.key, bytes(data[:-1] if damage == "cut off" else data))
    told = {"flipped": "SHA-256 differs", "cut off": "the receipt says", "missing": "is missing"}
    match = rf"{found.key}.*{told[damage]}.*; its shard was not copied; all others were; "
    with pytest.raises(MfsynthError, match=match) as info:
        copy_run(source, target)
    assert "\n" not in str(info.value)
    assert f"`{shlex.join(('mfsynth', 'verify', source.url))}`" in str(info.value)
    assert [*read_commits(target)] == [0, 2]
    assert not target.exists(found.key)
    assert not any(target.exists(key) for key in layout.DOCUMENT_KEYS)
    assert_incomplete(target, 2)
    data[300] ^= 4
    source.put_bytes(found.key, bytes(data))
    assert copy_run(source, target).brought == 1
    assert verify_run(target).problems == ()


def assert_incomplete(target, shards):
    told = f"{shards} receipts in _commits/, but 3 shards were committed"
    assert any(told in line for line in verify_run(target, deep=False).problems)
    assert f"lost         {3 - shards} of 3 shards" in "\n".join(run_status(target).lines())
    for read in (RGBDDataset, lambda url: copy_run(target, ObjectStore.open(f"{url}-2"))):
        with pytest.raises(MfsynthError, match=f"{told}.*if this is a copy: copy again"):
            read(target.url)


def test_an_interrupted_copy_is_no_smaller_run(run_store, target, monkeypatch):
    seen = []

    def stop(done, shards):
        seen.append((done, shards))
        raise KeyboardInterrupt

    monkeypatch.setattr("mfsynth.shards.copy._THREADS", 1)
    with pytest.raises(KeyboardInterrupt):
        copy_run(run_store, target, stop)
    assert seen == [(1, 3)]
    shards = len(read_commits(target))
    assert 1 <= shards < 3
    assert_incomplete(target, shards)
    assert not [key for key in target.list(layout.DRIVERS_FOLDER) if layout.is_heartbeat(key)]
    assert copy_run(run_store, target).brought == 3 - shards
    assert verify_run(target).problems == ()


def other_run(target):
    open_run(target, tiny_run.make_manifest(seed=1))


def same_settings(target):
    open_run(target, replace(tiny_run.make_manifest(), created="2026-01-02T00:00:00+00:00"))


def files(target):
    target.put_bytes("notes.txt", b"mine")


def receipts_alone(target):
    target.put_bytes(layout.commit_key(0), b"{}")


def garbage_run(target):
    target.put_bytes(layout.RUN_KEY, b"")


@pytest.mark.parametrize(
    ("prepare", "match"),
    [
        (other_run, "holds another run"),
        (same_settings, "holds another run"),
        (garbage_run, "holds another run, or another run.json"),
        (files, r"it has files \(such as notes.txt\) but no run.json"),
        (receipts_alone, r"it has files \(such as _commits/"),
    ],
)
def test_a_place_that_holds_something_else_is_refused(run_store, target, prepare, match):
    prepare(target)
    refuses(run_store, target, match)


def test_a_file_in_the_place_of_the_copy_is_refused(run_store, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(MfsynthError, match="is a file, not a run"):
        copy_run(run_store, ObjectStore.open(tmp_path / "file"))


def test_a_copy_that_was_generated_into_is_refused_where_it_differs(run_store, target):
    copy_run(run_store, target)
    commit(target, tiny_run.upload_shard(target, 3))
    assert copy_run(run_store, target).brought == 0
    commit(run_store, tiny_run.upload_shard(run_store, 3))
    refuses(run_store, target, "has other receipts of shard 3 than the run to copy")


def test_places_that_lie_in_each_other_are_refused(run_store, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(run_store.local_root)
    monkeypatch.chdir(tmp_path)
    for place in ("run", "link", "run/", "run/copy", "link/shards", f"file://{tmp_path}/run", "."):
        with pytest.raises(MfsynthError, match="or one lies in the other"):
            copy_run(run_store, ObjectStore.open(place))
    assert {path.name for path in tmp_path.iterdir()} == {"run", "link"}
    assert copy_run(run_store, ObjectStore.open("run-2")).shards == 3


def lose_all(store):
    for shard in read_commits(store):
        store.delete(layout.commit_key(shard))


def lose_counted(store):
    note_progress(store, 3)
    store.delete(layout.commit_key(2))


def lose_one(store):
    store.delete(layout.commit_key(1))


def spoil_one(store):
    change(store, layout.commit_key(1), b"{")


def change_run(store):
    change(store, layout.RUN_KEY, store.read_bytes(layout.RUN_KEY) + b" ")


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lose_all, "no receipt in _commits/"),
        (lose_counted, "2 receipts in _commits/, but 3 shards"),
        (lose_one, "shard 1 missing"),
        (spoil_one, "000001.json: not a receipt"),
        (change_run, "000000.json: was made for another run.json"),
        (lambda store: store.delete(layout.RUN_KEY), "is not a run"),
    ],
)
def test_a_run_that_is_not_whole_is_not_copied(run_store, target, damage, match):
    damage(run_store)
    refuses(run_store, target, match)
    assert not target.local_root.exists()


def test_of_a_run_in_progress_the_committed_shards_are_copied(run_store, target):
    lose_one(run_store)
    beat(run_store, layout.new_heartbeat())
    done = copy_run(run_store, target)
    assert (done.shards, done.brought, done.is_running) == (2, 2, True)
    assert [*read_commits(target)] == [0, 2]
    assert target.read_bytes(layout.PROGRESS_KEY) == b'{"shards": 2}\n'
    commit(run_store, tiny_run.upload_shard(run_store, 1))
    assert copy_run(run_store, target).brought == 1
    assert tiny_run.contents(target) == tiny_run.contents(run_store)
    assert verify_run(target).problems == ()


def test_of_a_run_that_has_just_begun_there_is_a_copy(store, target):
    open_run(store, tiny_run.make_manifest())
    assert copy_run(store, target).shards == 0
    assert verify_run(target).problems == ("no shard is committed yet",)


def test_documents_that_do_not_belong_to_the_receipts_are_left_out(run_store, target):
    finalize(run_store)
    commit(run_store, tiny_run.upload_shard(run_store, 3))
    assert copy_run(run_store, target).left_out == layout.DOCUMENT_KEYS
    assert verify_run(target).problems == ()
    finalize(run_store)
    assert copy_run(run_store, target).left_out == ()
    assert verify_run(target).problems == ()
    # The copy has gone on by itself.
    commit(target, tiny_run.upload_shard(target, 4))
    finalize(target)
    assert copy_run(run_store, target).left_out == layout.DOCUMENT_KEYS
    assert verify_run(target).problems == ()


def test_links_are_the_files_that_they_lead_to_on_both_sides(run_store, target, tmp_path):
    expected = stored(run_store) | {layout.PROGRESS_KEY: b'{"shards": 3}\n'}
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for key in run_store.list():
        path = run_store.local_root / key
        path.rename(blob := blobs / key.replace("/", "-"))
        path.symlink_to(blob)
    disk = tmp_path / "disk"
    (disk / "shards").mkdir(parents=True)
    target.local_root.symlink_to(disk)
    # An object that is there already, as a link.
    found = object_of(run_store)
    (tmp_path / "elsewhere").write_bytes(expected[found.key])
    (disk / found.key).symlink_to(tmp_path / "elsewhere")
    target.put_bytes(layout.RUN_KEY, expected[layout.RUN_KEY])
    copy_run(run_store, target)
    assert stored(target) == expected
    assert [path.name for path in disk.rglob("*") if path.is_symlink()] == [Path(found.key).name]
    # And one that leads nowhere, on either side.
    (tmp_path / "elsewhere").unlink()
    refuses_link(run_store, target, found.key)
    (disk / found.key).unlink()
    (blobs / found.key.replace("/", "-")).unlink()
    refuses_link(run_store, target, found.key)


def refuses_link(source, target, key):
    with pytest.raises(MfsynthError, match=f"{Path(key).name} is a link to what isn't there"):
        copy_run(source, target)


def test_gc_waits_for_a_copy_and_a_copy_for_what_gc_has_marked(run_store, target):
    def while_copying(done, shards):
        with pytest.raises(MfsynthError, match="or a copy"):
            collect(target, timedelta())

    copy_run(run_store, target, while_copying)
    target.delete(layout.commit_key(2))
    target.delete(layout.PROGRESS_KEY)
    assert len(collect(target, timedelta()).marked) == 3
    with pytest.raises(MfsynthError, match=r"000002\..*: gc has marked it"):
        copy_run(run_store, target)
    assert [*read_commits(target)] == [0, 1]
    target.delete(layout.PROGRESS_KEY)
    tiny_run.collect_all(target)
    for key in target.list(layout.TOMBSTONES_FOLDER):
        target.delete(key)
    assert copy_run(run_store, target).brought == 1
    assert verify_run(target).problems == ()
