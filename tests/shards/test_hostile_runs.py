"""Whatever a stranger writes into a run, every command says in a line what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_run

from mfsynth.config.limits import Limit
from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.reports.collect import collect_report
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.drivers import read_known_commits
from mfsynth.shards.finalize import finalize
from mfsynth.shards.gc import collect
from mfsynth.shards.run_manifest import open_run, read_run
from mfsynth.shards.status import run_status
from mfsynth.shards.tombstones import put_tombstone
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore

DEEP = 200_000
COMMIT = layout.commit_key(1)


def changed(store, key, **changes):
    """The document at a key with other values, as JSON of whatever kind."""
    return json.dumps(json.loads(store.read_bytes(key)) | changes)


def attacks(store, key, text_field, number_field):
    yield "[" * DEEP
    yield '{"a":' * DEEP
    yield changed(store, key, **{text_field: "\ud800"})
    yield changed(store, key, **{number_field: float("inf")})
    yield changed(store, key, **{number_field: float("nan")})
    yield f'{{"{text_field}": "x", ' + changed(store, key)[1:]
    yield b"\xff\xfe"
    yield "\x1b[2J" + "x" * 10**6


def one_line_of(command, store):
    with pytest.raises(MfsynthError) as caught:
        command(store)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 2100
    return message


@pytest.mark.parametrize("command", [read_run, run_status, finalize, verify_run])
def test_a_description_of_a_run_that_is_none(run_store, command):
    for document in attacks(run_store, "run.json", "created", "format_version"):
        data = document if isinstance(document, bytes) else document.encode()
        whole = run_store.read_bytes("run.json")
        run_store.put_bytes("run.json", data)
        assert "run.json" in one_line_of(command, run_store)
        run_store.put_bytes("run.json", whole)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        *((read, "run.json") for read in (read_run, run_status, finalize, verify_run)),
        (read_commits, COMMIT),
    ],
)
def test_a_pipe_that_nobody_writes_into_is_not_waited_for(tmp_path, command, key):
    store = tiny_run.make_run(str(tmp_path / "run"), 2)
    (tmp_path / "run" / key).unlink()
    os.mkfifo(tmp_path / "run" / key)
    assert f"{key} is neither a file nor a folder; remove it" in one_line_of(command, store)


@pytest.mark.parametrize(
    "changes",
    [
        {"run": "../../tmp/page"},
        {"run": "/tmp/page"},
        {"run": "a\x1b[2J"},
        {"run": ""},
        {"run": ["a"]},
        {"config": []},
        {"settings": "a"},
        {"model": [1]},
        {"versions": None},
        {"created": 7},
        {"fingerprint": {}},
        {"created": ""},
        {"nonce": 5},
        {"config": {"target": 5}},
        {"config": {"target": {"pairs": "9"}}},
        {"scores": {"registration": {"label": "x", "limit": "a"}}},
        {"scores": {"registration": {"label": 5}}},
        {"scores": {"registration": {"label": "x", "direction": "sideways"}}},
        {"model": {"id": 5}},
        {"model": {"licence": {"x": 1}}},
        {"settings": {"sampler": 5}},
        {"settings": {"checks": 5}},
        {"versions": {"a": [1]}},
        {"columns": []},
        {"reject_columns": [1]},
        {"members": []},
        {"members": {}},
    ],
    ids=str,
)
def test_a_description_of_other_types_or_with_a_name_that_is_a_path(run_store, changes):
    run_store.put_bytes("run.json", changed(run_store, "run.json", **changes).encode())
    for command in (read_run, run_status, finalize):
        assert "run.json: not the description of a run" in one_line_of(command, run_store)


def test_a_receipt_that_is_none(run_store):
    for document in attacks(run_store, COMMIT, "worker", "accepted"):
        data = document if isinstance(document, bytes) else document.encode()
        whole = run_store.read_bytes(COMMIT)
        run_store.put_bytes(COMMIT, data)
        for command in (read_commits, run_status, finalize):
            assert COMMIT in one_line_of(command, run_store)
        problems = verify_run(run_store, deep=False).problems
        assert any(COMMIT in line for line in problems)
        assert all(len(line) < 2200 for line in problems)
        run_store.put_bytes(COMMIT, whole)


def test_tables_that_are_not_utf_8_or_too_large_are_problems_that_verify_names(
    run_store, monkeypatch
):
    stored = read_commits(run_store)[0].objects["index"]
    path = run_store.local_root / stored.key
    table = pq.read_table(path, partitioning=None)
    text = pa.array([b"\xff"] * len(table)).view(pa.string())
    at = table.schema.get_field_index("sample_id")
    pq.write_table(table.set_column(at, table.schema.field(at), text), path)
    assert any("not Parquet" in line for line in verify_run(run_store).problems)
    pq.write_table(table, path)
    monkeypatch.setenv(Limit.ROWS.variable, "3")
    assert any("4 rows, the limit is 3" in line for line in verify_run(run_store).problems)


def all_refuse(store, match):
    before = {key: store.read_bytes(key) for key in store.list()}
    commands = (run_status, finalize, collect, read_known_commits, RGBDDataset, collect_report)
    for command in commands:
        by_url = command in (RGBDDataset, collect_report)
        message = one_line_of(lambda store: command(store.url if by_url else store), store)  # noqa: B023
        assert match in message, command
    assert verify_run(store, deep=False).problems
    assert {key: store.read_bytes(key) for key in store.list()} == before


@pytest.mark.parametrize("harm", ["two runs in one folder", "run.json of another", "a licence"])
def test_receipts_that_were_made_for_another_run_json(run_store, tmp_path, harm):
    other = other_run(tmp_path / "other", shards=5)
    if harm == "run.json of another":
        run_store.put_bytes(layout.RUN_KEY, other.read_bytes(layout.RUN_KEY))
    elif harm == "a licence":
        model = {"id": "embedded", "revision": "r1", "licence": "mit"}
        run_store.put_bytes(layout.RUN_KEY, changed(run_store, "run.json", model=model).encode())
    else:
        for key in other.list():
            if not run_store.exists(key):
                run_store.put_bytes(key, other.read_bytes(key))
    all_refuse(run_store, "was made for another run.json")


def test_objects_of_another_run_are_no_garbage(run_store, tmp_path):
    other = other_run(tmp_path / "other", shards=1)
    for key in other.list():
        if layout.parse_object_key(key):
            run_store.put_bytes(key, other.read_bytes(key))
    assert not tiny_run.collect_all(run_store)
    # Nor where a tombstone names them.
    foreign = [e for e in other.entries() if layout.parse_object_key(e.key)]
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    put_tombstone(run_store, foreign, long_ago, long_ago)
    assert not tiny_run.collect_all(run_store)
    assert all(run_store.exists(entry.key) for entry in foreign)


def test_a_run_json_whose_settings_were_changed_is_not_resumed(store):
    open_run(store, tiny_run.make_manifest())
    settings = {**tiny_run.SETTINGS, "seed": 9}
    store.put_bytes(layout.RUN_KEY, changed(store, "run.json", settings=settings).encode())
    message = one_line_of(lambda store: open_run(store, tiny_run.make_manifest()), store)
    assert "its settings are not those of its fingerprint" in message


def other_run(folder, shards):
    """Of the same name, with another seed."""
    store = ObjectStore.open(folder)
    manifest = tiny_run.make_manifest(seed=7)
    open_run(store, manifest)
    for shard in range(shards):
        assert commit(store, tiny_run.upload_shard(store, shard, run_id=manifest.run_id))
    return store


@pytest.mark.parametrize("kind", ["a dictionary", "a common beginning", "a list"])
def test_a_small_table_that_decodes_to_gigabytes(run_store, monkeypatch, kind):
    monkeypatch.setenv(Limit.BYTES.variable, "20000000")
    receipt = read_commits(run_store)[1]
    stored, path = receipt.objects["index"], run_store.local_root / receipt.objects["index"].key
    table, rows = pq.read_table(path, partitioning=None).slice(0, 1), 2000
    many = pa.concat_tables([table] * rows)
    text = pa.repeat(pa.scalar("x" * 20_000), rows)
    column = "prompt"
    if kind == "a list":
        column = "slot_view"
        text = pa.ListArray.from_arrays(pa.array(range(rows + 1), pa.int32()), text)
    at = table.schema.get_field_index(column)
    many = many.set_column(at, table.schema.field(at), text)
    if kind == "a common beginning":
        encoding = {"use_dictionary": False, "column_encoding": {"prompt": "DELTA_BYTE_ARRAY"}}
    else:
        encoding = {}
    pq.write_table(many, path, compression="zstd", **encoding)
    data = path.read_bytes()
    assert len(data) < 100_000
    digest = hashlib.sha256(data).hexdigest()
    objects = json.loads(run_store.read_bytes(COMMIT))["objects"]
    objects["index"] = {"key": stored.key, "size": len(data), "sha256": digest}
    changes = {"objects": objects, "accepted": rows, "candidates": rows + 2}
    run_store.put_bytes(COMMIT, changed(run_store, COMMIT, **changes).encode())
    match = "a table of [0-9]+ bytes and more, the limit is 20000000"
    for command in (lambda store: RGBDDataset(store.url), finalize):
        assert re.search(match, one_line_of(command, run_store))
    assert any(re.search(match, line) for line in verify_run(run_store).problems)


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": {"a": 1.7e308, "b": 1.7e308}},
        {"seconds": {"total": 10**400}},
        {"candidates": 10**30},
        {"accepted": 2**53 + 1},
        {"reasons": {"registration": 10**20}},
        {"created": "9999-12-31T23:59:59-23:59"},
        {"created": "2026-W01-1T00:00+00:00"},
        {"created": "0001-01-01T00:00:00+00:00"},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_receipt_of_numbers_and_times_that_nobody_can_add(run_store, changes):
    run_store.put_bytes(COMMIT, changed(run_store, COMMIT, **changes).encode())
    for command in (read_commits, run_status, finalize):
        assert "not a receipt of a shard" in one_line_of(command, run_store)
    assert any("not a receipt" in line for line in verify_run(run_store, deep=False).problems)


def test_a_receipt_of_more_candidates_than_memory_holds(run_store):
    run_store.put_bytes(COMMIT, changed(run_store, COMMIT, candidates=10**12).encode())
    assert any("is missing of 6 to" in line for line in verify_run(run_store).problems)


def test_a_receipt_of_a_shard_far_away(run_store):
    far = 999_999_999_999
    receipt = json.loads(run_store.read_bytes(COMMIT)) | {"shard": far}
    for kind, stored in receipt["objects"].items():
        stored["key"] = layout.object_key(kind, receipt["run"], far, receipt["attempt"])
    run_store.put_bytes(layout.commit_key(far), json.dumps(receipt).encode())
    for command in (run_status, finalize):
        assert "999999999999.json: of" in one_line_of(command, run_store)
    assert any("remove it" in line for line in verify_run(run_store).problems)
