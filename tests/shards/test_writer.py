from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import signal
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_run
from tiny_run import (
    DECLARED,
    RUN_ID,
    make_quarantine,
    make_records,
    make_reject,
    make_sample,
    open_spool,
)

from mfsynth.errors import MfsynthError
from mfsynth.shards import codecs, layout
from mfsynth.shards.marks import mark_jpeg, mark_png
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE, Receipt
from mfsynth.shards.tables import Declared
from mfsynth.shards.writer import encode_sample
from mfsynth.storage.errors import StoreError, StoreFullError
from mfsynth.storage.store import ObjectStore


def local(store, stored):
    return store.local_root / stored.key


def test_a_tar_is_plain_ustar_with_members_in_fixed_order(store):
    receipt = tiny_run.upload_shard(store, 0)
    path = local(store, receipt.objects["tar"])
    data = path.read_bytes()
    assert data[257:265] == b"ustar\x0000"
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == [
        f"{layout.sample_id(RUN_ID, candidate)}.{suffix}"
        for candidate in range(4)
        for suffix in ("rgb.jpg", "depth.png", "json")
    ]
    assert {(m.mtime, m.uid, m.gid, m.mode, m.uname, m.gname) for m in members} == {
        (0, 0, 0, 0o644, "", "")
    }


def test_bytes_do_not_depend_on_the_attempt(store):
    first, second = (tiny_run.upload_shard(store, 0) for _ in range(2))
    for kind in layout.OBJECT_KINDS:
        assert first.objects[kind].key != second.objects[kind].key
        assert first.objects[kind].sha256 == second.objects[kind].sha256


def test_the_index_points_into_the_tar(store):
    receipt = tiny_run.upload_shard(store, 0)
    data = local(store, receipt.objects["tar"]).read_bytes()
    rows = pq.read_table(local(store, receipt.objects["index"])).to_pylist()
    for row in rows:
        sample = make_sample(row["candidate"])
        jpeg, png, about = (
            data[row[f"{part}_offset"] :][: row[f"{part}_size"]] for part in layout.MEMBERS
        )
        unmarked = codecs.encode_depth(sample.depth)[0]
        assert jpeg == mark_jpeg(codecs.encode_jpeg(sample.rgb), DIGITAL_SOURCE_TYPE)
        assert png == mark_png(unmarked, DIGITAL_SOURCE_TYPE)
        assert json.loads(about)["sample_id"] == row["sample_id"] == sample.ref.sample_id
        assert (row["seed"], row["prompt"]) == (sample.ref.seed, sample.ref.prompt)
        assert row["valid_fraction"] == np.mean(sample.depth > 0)
        assert (row["fx"] is None) == (sample.intrinsics is None)
        assert row["check_registration"] == sample.scores["registration"]


def test_an_abstaining_check_is_null_in_the_index_and_in_the_json(store):
    receipt = tiny_run.upload_shard(store, 0)
    row = pq.read_table(local(store, receipt.objects["index"])).to_pylist()[1]
    assert row["check_valid_fraction"] is None
    assert json.loads(encode_sample(make_sample(1)).json)["scores"]["valid_fraction"] is None


def test_a_sample_says_what_its_siblings_are():
    encoded = encode_sample(make_sample(0))
    assert json.loads(encoded.json)["sha256"] == {
        "rgb.jpg": hashlib.sha256(encoded.rgb).hexdigest(),
        "depth.png": hashlib.sha256(encoded.depth).hexdigest(),
    }


def test_rejected_and_quarantined_candidates_leave_rows_of_their_own_kinds(store):
    receipt = tiny_run.upload_shard(store, 0)
    rejected, quarantined = pq.read_table(local(store, receipt.objects["rejects"])).to_pylist()
    assert rejected["outcome"] == "rejected"
    assert rejected["reasons"] == ["registration"]
    assert rejected["check_registration"] == 0.3
    assert rejected["thumbnail"] == b"\xff\xd8thumbnail"
    assert quarantined["outcome"] == "quarantined"
    assert quarantined["reasons"] == ["its worker died 3 times"]
    assert quarantined["check_registration"] is None
    assert quarantined["thumbnail"] is None


def test_all_shards_have_one_schema_also_one_without_a_sample(store):
    receipts = [tiny_run.upload_shard(store, shard) for shard in (0, 2)]
    assert receipts[1].accepted == 0
    for kind in ("index", "rejects"):
        first, second = (pq.read_schema(local(store, r.objects[kind])) for r in receipts)
        assert first.equals(second, check_metadata=True)


def test_the_receipt_counts_and_survives_json(store):
    receipt = tiny_run.upload_shard(store, 0)
    assert (receipt.accepted, receipt.rejected, receipt.quarantined) == (4, 1, 1)
    assert receipt.reasons == {"registration": 1}
    assert receipt.total_seconds == 2.0
    assert Receipt.from_json(receipt.to_json()) == receipt


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"run": 1}', "null"])
def test_text_that_is_no_receipt_is_refused(text):
    with pytest.raises(MfsynthError, match="not a receipt"):
        Receipt.from_json(text)


def test_samples_encoded_elsewhere_give_the_same_shard(store):
    encoded = [encode_sample(r, DECLARED) if r.ref.candidate < 4 else r for r in make_records(0)]
    first = tiny_run.upload_shard(store, 0)
    second = tiny_run.upload_shard(store, 0, encoded)
    assert first.objects["tar"].sha256 == second.objects["tar"].sha256


def test_rejects_may_come_in_any_order(store):
    records = make_records(0)
    first = tiny_run.upload_shard(store, 0)
    second = tiny_run.upload_shard(store, 0, [*reversed(records[4:]), *records[:4]])
    assert first.objects["rejects"].sha256 == second.objects["rejects"].sha256


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([make_sample(6)], "not of shard 0"),
        ([make_sample(1), make_sample(0)], "order"),
        ([make_sample(1), make_reject(1)], "added before"),
        ([make_quarantine(2), make_quarantine(2)], "added before"),
    ],
)
def test_a_record_that_does_not_belong_is_refused(records, message):
    with open_spool() as spool:
        for record in records[:-1]:
            spool.add(record)
        with pytest.raises(ValueError, match=message):
            spool.add(records[-1])


def test_an_undeclared_score_is_refused():
    with (
        open_spool(declared=Declared(("registration",), tiny_run.SLOTS)) as spool,
        pytest.raises(ValueError, match="'valid_fraction' was not declared"),
    ):
        spool.add(make_sample(0))


def test_a_shard_with_a_candidate_missing_can_not_be_closed():
    with open_spool() as spool:
        for record in make_records(0)[:-1]:
            spool.add(record)
        with pytest.raises(ValueError, match="candidate 5 has no outcome"):
            spool.close()


def test_a_disk_that_loses_bytes_is_noticed_before_the_upload(tmp_path):
    with open_spool(folder=tmp_path) as spool:
        for record in make_records(0):
            spool.add(record)
        # What was staged is damaged under the spool's hands.
        (tar,) = tmp_path.glob("*/tar")
        spool._tar_files["tar"].flush()
        with tar.open("r+b") as file:
            file.seek(600)
            file.write(b"\0\0\0\0")
        with pytest.raises(MfsynthError, match=r"did not keep shard 0: .*CRC-32") as info:
            spool.close()
    assert "\n" not in str(info.value)


def test_nothing_is_left_on_the_local_disk(tmp_path):
    def fail_half_way():
        with open_spool(folder=tmp_path) as spool:
            spool.add(make_sample(0))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_full_local_disk_is_one_clear_line(monkeypatch, tmp_path):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with open_spool(folder=tmp_path) as spool:
        for record in make_records(0):
            spool.add(record)
        with pytest.raises(StoreFullError, match=r"no space left in the spool folder .*TMPDIR"):
            spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_spool_folder_is_one_clear_line(tmp_path):
    with pytest.raises(MfsynthError, match="can't write to the spool folder"):
        open_spool(folder=tmp_path / "none").__enter__()


def test_an_upload_may_be_repeated(store):
    with open_spool() as spool:
        for record in make_records(0):
            spool.add(record)
        spool.close()
        first = spool.upload(store, seconds={}, worker="a")
        assert spool.upload(store, seconds={}, worker="a").objects == first.objects
    assert len(store.list()) == 3


def test_an_upload_that_arrives_short_is_noticed(store, monkeypatch):
    monkeypatch.setattr(ObjectStore, "size", lambda self, key: 12)
    with pytest.raises(StoreError, match="bytes were sent, 12 arrived"):
        tiny_run.upload_shard(store, 0)


def test_an_unclosed_shard_can_not_be_uploaded(store):
    with open_spool() as spool, pytest.raises(ValueError, match="close"):
        spool.upload(store, seconds={}, worker="a")


def test_a_killed_workers_folder_is_removed_by_the_next_and_a_living_ones_is_not(tmp_path):
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_die_in_a_spool, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    (abandoned,) = tmp_path.iterdir()
    with open_spool(folder=tmp_path):
        (living,) = tmp_path.iterdir()
        assert living != abandoned
        with open_spool(folder=tmp_path):
            assert living.exists()
    assert list(tmp_path.iterdir()) == []


def _die_in_a_spool(folder):
    with open_spool(folder=folder) as spool:
        spool.add(make_sample(0))
        os.kill(os.getpid(), signal.SIGKILL)
