from __future__ import annotations

import json
import uuid
from contextlib import contextmanager
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import tiny_run
from locked_folders import locked

from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.records import StoredObject
from mfsynth.shards.verify import verify_run
from mfsynth.storage.digests import sha256_of_file
from mfsynth.storage.store import ObjectStore


def key_of(store, kind, shard=0):
    return read_commits(store)[shard].objects[kind].key


def path_of(store, kind, shard=0):
    return store.local_root / key_of(store, kind, shard)


def recommit(store, shard=0, **changes):
    """Rewrite a receipt so that it vouches for what is stored: a liar, not a broken disk."""
    receipt = read_commits(store)[shard]
    objects = {}
    for kind, stored in receipt.objects.items():
        path = store.local_root / stored.key
        objects[kind] = StoredObject(stored.key, path.stat().st_size, sha256_of_file(path))
    receipt = replace(receipt, objects=objects, **changes)
    store.put_bytes(layout.commit_key(shard), receipt.to_json().encode())


def problems(store, deep=True):
    found = verify_run(store, deep).problems
    assert all("\n" not in line for line in found)
    return found


@pytest.mark.parametrize("deep", [True, False])
def test_a_sound_run_has_no_problem(run_store, deep):
    report = verify_run(run_store, deep)
    assert report.problems == ()
    assert (report.shards, report.pairs, report.deep) == (3, 8, deep)


def test_a_sound_remote_run_has_no_problem():
    assert problems(tiny_run.make_run(f"memory://{uuid.uuid4().hex}/run")) == ()


def test_progress_is_told_for_every_shard(run_store):
    told = []
    verify_run(run_store, on_shard=lambda done, shards: told.append((done, shards)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("kind", layout.OBJECT_KINDS)
@pytest.mark.parametrize("deep", [True, False])
def test_a_missing_object_is_one_line_with_shard_and_key(run_store, kind, deep):
    key = key_of(run_store, kind, 1)
    run_store.delete(key)
    assert problems(run_store, deep) == (f"shard 000001: {key}: is missing",)


@pytest.mark.parametrize("place", ["folder", "store"])
@pytest.mark.parametrize("kind", layout.OBJECT_KINDS)
@pytest.mark.parametrize("when", ["before it is copied", "while it is read"])
def test_an_object_that_goes_after_it_was_listed_is_missing(
    run_store, kind, place, when, monkeypatch
):
    store = run_store
    if place == "store":
        store = tiny_run.make_run(f"memory://{uuid.uuid4().hex}/run")
    key, whole = key_of(store, kind, 1), ObjectStore.local_copy

    @contextmanager
    def local_copy(place, wanted):
        if wanted == key and when == "before it is copied":
            store.delete(key)
        with whole(place, wanted) as path:
            if wanted == key and when != "before it is copied":
                store.delete(key)
                path.unlink(missing_ok=True)
            yield path

    monkeypatch.setattr(ObjectStore, "local_copy", local_copy)
    assert problems(store) == (f"shard 000001: {key}: is missing",)


@pytest.mark.parametrize("when", ["before it is copied", "while it is read"])
def test_what_is_wrong_with_others_is_said_beside_one_that_went(run_store, when, monkeypatch):
    key, whole = key_of(run_store, "rejects", 1), ObjectStore.local_copy
    damaged = path_of(run_store, "tar", 1)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)

    @contextmanager
    def local_copy(place, wanted):
        if wanted == key and when == "before it is copied":
            run_store.delete(key)
        with whole(place, wanted) as path:
            if wanted == key:
                path.unlink()
            yield path

    monkeypatch.setattr(ObjectStore, "local_copy", local_copy)
    found = problems(run_store)
    assert found[0] == f"shard 000001: {key}: is missing"
    assert f"shard 000001: {key_of(run_store, 'tar', 1)}: its bytes changed" in found[1]
    assert all(key not in line for line in found[1:])


@pytest.mark.parametrize("kind", layout.OBJECT_KINDS)
def test_a_truncated_object_is_found_by_its_size_alone(run_store, kind):
    path = path_of(run_store, kind)
    path.write_bytes(path.read_bytes()[:-100])
    (line,) = problems(run_store, deep=False)
    assert line.startswith(f"shard 000000: {key_of(run_store, kind)}: ")
    assert "truncated or overwritten" in line


@pytest.mark.parametrize("keep", [0, 100, 512, 2048, 5120, -1024, -10240])
def test_a_truncated_tar_is_found_even_if_the_receipt_vouches_for_it(run_store, keep):
    path = path_of(run_store, "tar")
    path.write_bytes(path.read_bytes()[:keep])
    recommit(run_store)
    (line,) = problems(run_store)
    assert line.startswith(f"shard 000000: {key_of(run_store, 'tar')}: truncated")


@pytest.mark.parametrize("kind", ["index", "rejects"])
def test_a_truncated_table_is_found_even_if_the_receipt_vouches_for_it(run_store, kind):
    path = path_of(run_store, kind)
    path.write_bytes(path.read_bytes()[:-20])
    recommit(run_store)
    (line,) = problems(run_store)
    assert f"{key_of(run_store, kind)}: truncated, or not Parquet" in line


@pytest.mark.parametrize("part", ["rgb", "depth", "json"])
def test_a_flipped_bit_is_found_by_hash_and_by_crc(run_store, part):
    path = path_of(run_store, "tar")
    row = pq.read_table(path_of(run_store, "index")).to_pylist()[2]
    data = bytearray(path.read_bytes())
    data[row[f"{part}_offset"] + 20] ^= 1
    path.write_bytes(data)
    by_hash, by_crc = problems(run_store)
    assert by_hash.endswith("its bytes changed (SHA-256 differs)")
    assert f"{row['sample_id']}.{part}" in by_crc
    assert problems(run_store, deep=False) == ()


def rewrite_index(store, change, shard=0):
    path = path_of(store, "index", shard)
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)


def test_an_index_that_points_elsewhere_is_found(run_store):
    def change(rows):
        rows[1]["depth_offset"] += 512

    rewrite_index(run_store, change)
    recommit(run_store)
    (line,) = problems(run_store)
    assert "offset or size is not that of the index" in line


def test_a_picture_of_another_size_than_the_index_says_is_found(run_store):
    def change(rows):
        rows[0]["width"] = 31

    rewrite_index(run_store, change)
    recommit(run_store)
    found = problems(run_store)
    assert [line.split(": ", 2)[2] for line in found] == [
        f"{tiny_run.RUN_ID}-000000000.rgb.jpg: is 32x24, not 31x24",
        f"{tiny_run.RUN_ID}-000000000.depth.png: is 32x24, not 31x24",
        f"{tiny_run.RUN_ID}-000000000.json: says other than the index of width",
    ]


def test_bytes_that_do_not_decode_are_found_though_every_hash_agrees(run_store):
    import zlib

    tar = path_of(run_store, "tar")
    data = bytearray(tar.read_bytes())
    rows = pq.read_table(path_of(run_store, "index")).to_pylist()
    for part in ("rgb", "depth"):
        start, size = rows[0][f"{part}_offset"], rows[0][f"{part}_size"]
        data[start : start + 8] = b"notmedia"
        rows[0][f"{part}_crc32"] = zlib.crc32(bytes(data[start : start + size]))
    tar.write_bytes(data)
    rewrite_index(run_store, lambda old: old.__setitem__(slice(None), rows))
    recommit(run_store)
    rgb, depth = problems(run_store)
    assert f"{tiny_run.RUN_ID}-000000000.rgb.jpg: does not decode" in rgb
    assert f"{tiny_run.RUN_ID}-000000000.depth.png: does not decode" in depth


def test_a_missing_row_is_found(run_store):
    rewrite_index(run_store, lambda rows: rows.pop())
    recommit(run_store)
    found = " | ".join(problems(run_store))
    assert "is not in the index" in found
    assert "3 samples, the receipt says 4" in found
    assert "candidate 3 is missing of 0 to 5" in found


def test_an_id_in_two_shards_is_found(run_store):
    def change(rows):
        rows[0]["sample_id"] = f"{tiny_run.RUN_ID}-000000000"

    rewrite_index(run_store, change, shard=1)
    recommit(run_store, shard=1)
    found = " | ".join(problems(run_store))
    assert f"{tiny_run.RUN_ID}-000000000 is in shard 0 too" in found


def test_a_receipt_that_names_another_shards_objects_is_none(run_store):
    receipt = tiny_run.upload_shard(run_store, 0)
    run_store.put_bytes(layout.commit_key(1), replace(receipt, shard=1).to_json().encode())
    assert "is not the tar of this attempt" in problems(run_store, deep=False)[0]


def test_a_gap_is_found(run_store):
    run_store.delete(layout.commit_key(1))
    assert problems(run_store) == (
        "shard 000001: _commits/000001.json: not committed, but shard 2 is",
    )


def test_a_receipt_of_another_run_is_found(run_store):
    receipt = read_commits(run_store)[0]
    objects = {
        kind: replace(stored, key=stored.key.replace(tiny_run.RUN_ID, "other"))
        for kind, stored in receipt.objects.items()
    }
    changed = replace(receipt, run="other", objects=objects)
    run_store.put_bytes(layout.commit_key(0), changed.to_json().encode())
    assert any("is of run 'other'" in line for line in problems(run_store, deep=False))


def rewrite_run(store, **changes):
    values = json.loads(store.read_bytes(layout.RUN_KEY))
    store.put_bytes(layout.RUN_KEY, json.dumps(values | changes).encode())


def test_a_setting_that_was_changed_in_run_json_is_found(run_store):
    rewrite_run(run_store, settings={**tiny_run.SETTINGS, "seed": 7})
    found = problems(run_store, deep=False)
    assert "run.json: its settings are not those of its fingerprint" in found


def test_what_was_changed_in_run_json_beside_the_settings_is_found(run_store):
    rewrite_run(run_store, model={"id": "embedded", "revision": "r1", "licence": "mine"})
    found = problems(run_store, deep=False)
    assert found == tuple(
        f"shard {shard:06d}: {layout.commit_key(shard)}: was made for another run.json"
        for shard in range(3)
    )


@pytest.mark.parametrize("kind", layout.OBJECT_KINDS)
def test_an_object_that_can_not_be_read_is_a_problem_not_a_crash(run_store, kind):
    path_of(run_store, "tar", 2).write_bytes(b"")
    key, other = key_of(run_store, kind, 1), key_of(run_store, "tar", 2)
    assert len({line.split(": ")[1] for line in problems(run_store)}) == 1
    with locked(run_store.local_root / key):
        told = problems(run_store)
    assert f"shard 000001: {key}: can't be read (Permission denied)" in told
    assert {line.split(": ")[1] for line in told} == {key, other}


def test_outcomes_that_do_not_add_up_are_found(run_store):
    recommit(run_store, rejected=2)
    assert any("7 outcomes for 6 candidates" in line for line in problems(run_store, False))


def test_reasons_that_no_reject_has_are_found(run_store):
    recommit(run_store, reasons={"registration": 9})
    key = key_of(run_store, "rejects")
    told = f"shard 000000: {key}: rejected by registration 1, not registration 9"
    assert problems(run_store) == (told,)
    # Receipts of earlier versions have none.
    recommit(run_store, reasons={})
    assert problems(run_store) == ()


def test_a_damaged_commit_is_a_problem_not_a_crash(run_store):
    run_store.put_bytes(layout.commit_key(2), b'{"run"')
    (line,) = problems(run_store)
    assert line.startswith("shard 000002: _commits/000002.json: not a receipt")


def test_a_stray_file_among_the_commits_is_found(run_store):
    run_store.put_bytes("_commits/7.json", b"{}")
    assert problems(run_store) == ("_commits/7.json: is not the name of a commit",)


def test_what_killed_writers_left_is_no_problem(run_store):
    tiny_run.upload_shard(run_store, 3)
    run_store.put_bytes("_commits/.000003.json.ab.part", b"{")
    run_store.put_bytes("shards/.tiny-000003.ab.tar.cd.part", b"half")
    assert problems(run_store) == ()


def test_a_place_without_a_run_is_one_clear_line(store):
    with pytest.raises(MfsynthError, match="is not a run"):
        verify_run(store)


def test_a_deleted_commit_is_mended_by_making_the_shard_again(run_store):
    before = read_commits(run_store)[1]
    path = path_of(run_store, "tar", 1)
    path.write_bytes(b"")
    run_store.delete(layout.commit_key(1))
    assert commit(run_store, tiny_run.upload_shard(run_store, 1))
    assert problems(run_store) == ()
    assert read_commits(run_store)[1].objects["tar"].sha256 == before.objects["tar"].sha256
    assert json.loads(run_store.read_bytes("run.json"))["run"] == "tiny"
