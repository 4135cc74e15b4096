"""`run.json` says what a run holds, and what a later mfsynth adds disturbs no reader."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.records import StoredObject
from mfsynth.shards.run_manifest import open_run, read_run, run_sha256
from mfsynth.shards.tar import TarWriter
from mfsynth.shards.verify import verify_run
from mfsynth.storage.digests import sha256_of_file
from mfsynth.storage.store import ObjectStore

FLOW = {"name": "flow", "suffix": "flow.png", "meaning": "where pixels go"}
ADDED = [
    {"name": "weather", "type": "string", "nullable": True, "meaning": "how it was"},
    {"name": "flow_offset", "type": "int64", "nullable": True, "meaning": "first byte"},
    {"name": "flow_size", "type": "int64", "nullable": True, "meaning": "bytes"},
    {"name": "flow_crc32", "type": "uint32", "nullable": True, "meaning": "CRC-32"},
    {"name": "mass", "type": "decimal of a later version", "nullable": True, "meaning": "kg"},
]


def described_by_run(store, kind: str) -> list[tuple[str, bool]]:
    run = read_run(store)
    columns = run.columns if kind == "index" else run.reject_columns
    return [(column["name"], column["nullable"]) for column in columns]


@pytest.mark.parametrize("kind", ["index", "rejects"])
def test_run_json_names_the_columns_that_are_stored(run_store, kind):
    for receipt in read_commits(run_store).values():
        schema = pq.read_schema(run_store.local_root / receipt.objects[kind].key)
        assert [(field.name, field.nullable) for field in schema] == described_by_run(
            run_store, kind
        )
    entries = json.loads(run_store.read_bytes("run.json"))
    for column in [*entries["columns"], *entries["reject_columns"]]:
        assert column["meaning"]


def test_run_json_names_the_members_that_are_stored(run_store):
    key = read_commits(run_store)[0].objects["tar"].key
    with tarfile.open(run_store.local_root / key) as tar:
        suffixes = [name.split(".", 1)[1] for name in tar.getnames()]
    assert [member["suffix"] for member in read_run(run_store).members] == suffixes[:3]


def test_columns_that_run_json_does_not_name_are_found(run_store):
    path = run_store.local_root / read_commits(run_store)[1].objects["index"].key
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.append_column("mine", pa.array([1] * len(table))), path)
    found = " | ".join(verify_run(run_store).problems)
    assert "its columns are not those that run.json names" in found


@pytest.mark.parametrize("field", ["members", "columns", "reject_columns"])
def test_a_run_json_that_describes_nothing_is_one_clear_line(run_store, field):
    values = json.loads(run_store.read_bytes("run.json"))
    run_store.put_bytes("run.json", json.dumps(values | {field: [{"name": 3}]}).encode())
    with pytest.raises(MfsynthError, match=r"run\.json: not the description of a run .*lacks name"):
        read_run(run_store)


@pytest.fixture
def later(store, tmp_path):
    """A run as a later mfsynth may write it: with a member for every other sample, and columns."""
    manifest = tiny_run.make_manifest()
    rgb, depth, about = manifest.members
    open_run(
        store,
        replace(
            manifest,
            members=[rgb, depth, FLOW, about],
            columns=[*manifest.columns, *ADDED],
        ),
    )
    # Written as by this mfsynth, which knows nothing of what is added.
    plain = ObjectStore.open(tmp_path / "plain")
    open_run(plain, manifest)
    receipt = replace(tiny_run.upload_shard(plain, 0), run_sha256=run_sha256(store))
    for stored in receipt.objects.values():
        store.put_file(plain.local_root / stored.key, stored.key)
    tar, index = (store.local_root / receipt.objects[kind].key for kind in ("tar", "index"))
    add_to_tar_and_index(tar, index)
    objects = {
        kind: StoredObject(
            stored.key,
            (store.local_root / stored.key).stat().st_size,
            sha256_of_file(store.local_root / stored.key),
        )
        for kind, stored in receipt.objects.items()
    }
    assert commit(store, replace(receipt, objects=objects))
    return store


def add_to_tar_and_index(tar_path, index_path) -> None:
    with tarfile.open(tar_path) as tar:
        old = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    table = pq.read_table(index_path, partitioning=None)
    file, rows = io.BytesIO(), table.to_pylist()
    writer = TarWriter(file)
    for row in rows:
        members = {name: old[layout.member_name(row["sample_id"], name)] for name in layout.MEMBERS}
        about = members.pop("json")
        if row["row"] % 2:
            members["flow"] = data = b"16 bits of a flow"
            described = json.loads(about)
            described["sha256"][FLOW["suffix"]] = hashlib.sha256(data).hexdigest()
            about = json.dumps(described).encode()
        for name, data in [*members.items(), ("json", about)]:
            suffix = FLOW["suffix"] if name == "flow" else layout.MEMBERS[name].suffix
            span = writer.add(f"{row['sample_id']}.{suffix}", data)
            row |= {
                f"{name}_offset": span.offset,
                f"{name}_size": span.size,
                f"{name}_crc32": span.crc32,
            }
    writer.finish()
    tar_path.write_bytes(file.getvalue())
    schema = table.schema
    for name, kind in (
        ("weather", pa.string()),
        ("flow_offset", pa.int64()),
        ("flow_size", pa.int64()),
        ("flow_crc32", pa.uint32()),
        ("mass", pa.decimal128(9, 3)),
    ):
        schema = schema.append(pa.field(name, kind))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), index_path)


def test_readers_ignore_what_they_do_not_know(later):
    samples = list(RGBDDataset(later.url))
    assert len(samples) == 4
    for sample in samples:
        np.testing.assert_allclose(
            sample.depth, tiny_run.make_sample(sample.candidate).depth, rtol=1e-3
        )


def test_verify_hashes_also_what_it_does_not_know(later):
    assert verify_run(later).problems == ()
    path = later.local_root / read_commits(later)[0].objects["tar"].key
    data = path.read_bytes()
    path.write_bytes(data.replace(b"16 bits of a flow", b"16 bits of a glow", 1))
    by_hash, by_crc = verify_run(later).problems
    assert "SHA-256 differs" in by_hash
    assert "000000001.flow.png: its bytes changed (CRC-32 differs)" in by_crc
