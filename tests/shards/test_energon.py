"""What Energon reads of a run; `tests/peers/load_energon.py` has Energon itself read it."""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
import struct
import tarfile

import numpy as np
import pytest
import tiny_run
import webdataset
import yaml
from metric_run import make_full_run

from mfsynth.cli import main
from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.plain import decode_pair
from mfsynth.errors import MfsynthError
from mfsynth.shards.commits import read_commits
from mfsynth.shards.copy import copy_run
from mfsynth.shards.documents.energon import EnergonIndex
from mfsynth.shards.energon import write_energon
from mfsynth.shards.finalize import finalize
from mfsynth.shards.reading import read_index
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore

TEXTS = (".nv-meta/.info.json", ".nv-meta/split.yaml", ".nv-meta/dataset.yaml")


def rows(store, table, number):
    database = sqlite3.connect(store.local_root / ".nv-meta" / "index.sqlite")
    statement = f"SELECT * FROM {table} WHERE tar_file_id = {number} ORDER BY rowid"
    try:
        return database.execute(statement).fetchall()
    finally:
        database.close()


def test_samples_and_their_members_lie_where_the_database_and_the_offsets_say(run_store):
    finalize(run_store, energon=True)
    root = run_store.local_root
    counts = json.loads((root / TEXTS[0]).read_text())["shard_counts"]
    # The third shard has no sample; Energon takes that for an error.
    assert [*counts.values()] == [4, 4]
    assert yaml.safe_load((root / TEXTS[1]).read_text())["split_parts"] == {"train": [*counts]}
    for number, key in enumerate(counts):
        with tarfile.open(root / key) as tar:
            members = tar.getmembers()
            end = tar.offset
        starts = [member.offset for member in members[::3]]
        data = (root / f"{key}.idx").read_bytes()
        assert [offset for (offset,) in struct.iter_unpack("<Q", data)] == [*starts, end]
        found = rows(run_store, "samples", number)
        sizes = np.diff([*starts, end]).tolist()
        ids = [member.name.partition(".")[0] for member in members[::3]]
        assert found == [(number, *row) for row in zip(ids, range(4), starts, sizes, strict=True)]
        parts = rows(run_store, "sample_parts", number)
        assert parts == [
            (number, i // 3, member.name.partition(".")[2], member.offset_data, member.size)
            for i, member in enumerate(members)
        ]


def test_it_is_written_where_it_is_asked_for_and_anew_by_every_finalize(run_store, capsys):
    finalize(run_store)
    assert not run_store.list(".nv-meta")
    with pytest.raises(SystemExit):
        main(["finalize", run_store.url, "--energon"])
    assert f"{run_store.url}/.nv-meta/index.sqlite" in capsys.readouterr().out
    before = run_store.read_bytes(".nv-meta/index.uuid")
    finalize(run_store)
    assert run_store.read_bytes(".nv-meta/index.uuid") == before
    tiny_run.make_missing_shards(run_store.url, 4)
    assert any(
        ".nv-meta/.info.json: is not what" in p for p in verify_run(run_store, deep=True).problems
    )
    finalize(run_store)
    assert verify_run(run_store, deep=True).problems == ()
    assert run_store.read_bytes(".nv-meta/index.uuid") != before
    assert [len(rows(run_store, "samples", number)) for number in range(3)] == [4, 4, 4]


def flip(store):
    path = next((store.local_root / "shards").glob("*.idx"))
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def lose(store):
    (store.local_root / ".nv-meta" / "index.sqlite").unlink()


def wrong_row(store):
    database = sqlite3.connect(store.local_root / ".nv-meta" / "index.sqlite")
    database.execute("UPDATE sample_parts SET content_byte_size = 1 WHERE sample_index = 3")
    database.commit()
    database.close()


def no_database(store):
    (store.local_root / ".nv-meta" / "index.sqlite").write_bytes(b"\0" * 4096)


def view(store):
    lose(store)
    database = sqlite3.connect(store.local_root / ".nv-meta" / "index.sqlite")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT max(i) FROM n"
    database.execute(f"CREATE VIEW samples AS {endless}")
    database.commit()
    database.close()


@pytest.mark.parametrize("damage", [flip, lose, wrong_row, no_database, view])
def test_verify_names_what_is_not_what_the_receipts_come_to(run_store, damage):
    finalize(run_store, energon=True)
    assert verify_run(run_store, deep=True).problems == ()
    damage(run_store)
    (problem,) = verify_run(run_store, deep=True).problems
    assert "`mfsynth finalize` writes it anew" in problem
    finalize(run_store)
    assert verify_run(run_store, deep=True).problems == ()


class Killed(BaseException):
    """Nothing catches it."""


def test_a_killed_writer_is_found_out_and_the_next_finalize_ends_what_it_began(
    run_store, tmp_path, monkeypatch
):
    finalize(run_store)
    written, most = 0, 0
    bytes_put, file_put = ObjectStore.put_bytes, ObjectStore.put_file

    def counted(put):
        def put_unless_killed(store, *what):
            nonlocal written
            if written == most:
                raise Killed
            written += 1
            put(store, *what)

        return put_unless_killed

    for most in range(1, 7):
        shutil.copytree(run_store.local_root, tmp_path / str(most))
        store = ObjectStore.open(tmp_path / str(most))
        # Behind the three documents.
        written = -3
        with monkeypatch.context() as patched:
            patched.setattr(ObjectStore, "put_bytes", counted(bytes_put))
            patched.setattr(ObjectStore, "put_file", counted(file_put))
            with pytest.raises(Killed):
                finalize(store, energon=True)
        lines = verify_run(store, deep=True).problems
        assert any(".nv-meta/.info.json: is not what" in line for line in lines)
        finalize(store)
        assert verify_run(store, deep=True).problems == ()
        assert {*TEXTS, ".nv-meta/index.sqlite"} <= {*store.list(".nv-meta")}


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_copy_has_it_too(run_store, tmp_path, request, kind):
    finalize(run_store, energon=True)
    place = tmp_path / "copy" if kind == "folder" else request.getfixturevalue(kind).new_bucket()
    target = ObjectStore.open(place)
    assert copy_run(run_store, target).left_out == ()
    assert verify_run(target, deep=True).problems == ()
    for key in (*TEXTS, ".nv-meta/index.uuid", ".nv-meta/index.sqlite"):
        assert target.read_bytes(key) == run_store.read_bytes(key)


def test_gc_removes_offsets_of_tars_that_no_receipt_names(run_store):
    finalize(run_store, energon=True)
    tar = read_commits(run_store)[0].objects["tar"].key
    orphan = tar.replace(".", ".other", 1) + ".idx"
    strange = "shards/notes.tar.idx"
    for key in (orphan, strange):
        run_store.put_bytes(key, b"12345678")
    assert [entry.key for entry in tiny_run.collect_all(run_store)] == [orphan]
    assert run_store.exists(f"{tar}.idx")
    assert run_store.exists(strange)
    assert verify_run(run_store, deep=True).problems == ()


def test_members_of_plain_webdataset_decode_to_what_the_data_set_has(run_store):
    tars = [
        str(run_store.local_root / receipt.objects["tar"].key)
        for receipt in read_commits(run_store).values()
    ]
    pairs = webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).map(decode_pair)
    for pair, sample in zip(pairs, RGBDDataset(run_store.url), strict=True):
        assert (pair.sample_id, pair.prompt) == (sample.sample_id, sample.prompt)
        np.testing.assert_array_equal(pair.depth, sample.depth)
        np.testing.assert_array_equal(pair.rgb, sample.rgb)
        assert pair.depth_kind is sample.depth_kind
        if sample.intrinsics is None:
            assert np.isnan(pair.intrinsics[0, 0])
        else:
            np.testing.assert_array_equal(pair.intrinsics, sample.intrinsics)


def test_members_beside_image_and_depth_are_in_the_database_too(tmp_path):
    store = make_full_run(str(tmp_path / "run"))
    finalize(store, energon=True)
    [key] = json.loads((store.local_root / TEXTS[0]).read_text())["shard_counts"]
    with tarfile.open(store.local_root / key) as tar:
        stored = {(m.name.partition(".")[2], m.offset_data, m.size) for m in tar.getmembers()}
    assert {row[2:] for row in rows(store, "sample_parts", 0)} == stored
    assert {name for name, _, _ in stored} > {"sensor.png", "mask.png", "poses.json"}


def test_a_local_disk_that_does_not_take_the_database_is_one_clear_line(run_store):
    commits = read_commits(run_store)
    wanted = EnergonIndex(commits, read_index(run_store, commits.values()))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(MfsynthError, match="set TMPDIR to a larger disk") as info:
            write_energon(run_store, wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(info.value)
    assert run_store.list(".nv-meta") == []
