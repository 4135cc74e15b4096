"""Deep `verify` finds every fault of stored data, and names the file that it is in.

Each kind of fault is injected at several places. Kinds whose names begin with "agreed" are the
worst: whoever changed the data also changed the index and the receipt, so that no hash tells.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset
from mfsynth.shards import codecs, layout
from mfsynth.shards.commits import read_commits
from mfsynth.shards.finalize import finalize
from mfsynth.shards.records import StoredObject
from mfsynth.shards.refilter import refilter
from mfsynth.shards.verify import verify_run
from mfsynth.shards.views import Bound, Rules, pack, read_view
from mfsynth.storage.store import ObjectStore

REPEATS = 3
VIEW = "loose"
Fault = Callable[[ObjectStore, np.random.Generator], str]
"""Injects a fault; returns what a line of `verify` must hold: the file that it is in."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    store = tiny_run.make_run(str(tmp_path_factory.mktemp("faults") / "sound"))
    tiny_run.compact_all(store)
    finalize(store)
    assert verify_run(store).problems == ()
    return store.local_root


@pytest.fixture(scope="module")
def for_energon(sound, tmp_path_factory):
    root = tmp_path_factory.mktemp("faults") / "energon"
    store = ObjectStore.open(shutil.copytree(sound, root))
    finalize(store, energon=True)
    assert verify_run(store).problems == ()
    return root


@pytest.fixture(scope="module")
def with_a_view(tmp_path_factory):
    """A run that keeps the pixels of what it rejects, with a view that brings them back."""
    manifest = tiny_run.make_manifest(keeps_rejects=True)
    store = tiny_run.make_run(str(tmp_path_factory.mktemp("faults") / "keeping"), 2, manifest)
    limits = {"registration": Bound(0.2, is_minimum=True)}
    refilter(store, VIEW, Rules(limits, duplicates_within=0, max_per_prompt=1))
    assert verify_run(store).problems == ()
    return store.local_root


def a_receipt(store, rng):
    """Of a shard that has samples."""
    return read_commits(store)[int(rng.integers(2))]


def path_of(store, key) -> Path:
    return store.local_root / key


def recommit(store, receipt):
    """Have the receipt vouch for what is stored."""
    objects = {}
    for kind, stored in receipt.objects.items():
        data = path_of(store, stored.key).read_bytes()
        objects[kind] = StoredObject(stored.key, len(data), hashlib.sha256(data).hexdigest())
    write_receipt(store, replace(receipt, objects=objects).to_json(), receipt.shard)


def write_receipt(store, text, shard):
    path_of(store, layout.commit_key(shard)).write_text(text)


# --- bytes ----------------------------------------------------------------------------------


def flip(data: bytes, rng) -> bytes:
    changed = bytearray(data)
    changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def blank(data: bytes, rng) -> bytes:
    start = int(rng.integers(max(1, len(data) - 64)))
    part = data[start : start + 64]
    filler = b"\xff" if not any(part) else b"\x00"
    return data[:start] + filler * len(part) + data[start + len(part) :]


BYTES = {
    "a bit": flip,
    "64 bytes": blank,
    "cut": lambda data, rng: data[: int(rng.integers(1, len(data)))],
    "empty": lambda data, rng: b"",
    "longer": lambda data, rng: data + bytes(rng.integers(1, 2000)),
    "shuffled": lambda data, rng: data[len(data) // 2 :] + data[: len(data) // 2],
}


def changed_object(kind: str, change: Callable[[bytes, Any], bytes]) -> Fault:
    def inject(store, rng):
        key = a_receipt(store, rng).objects[kind].key
        path = path_of(store, key)
        path.write_bytes(change(path.read_bytes(), rng))
        return key

    return inject


def lost(kind: str) -> Fault:
    def inject(store, rng):
        key = a_receipt(store, rng).objects[kind].key
        path_of(store, key).unlink()
        return key

    return inject


def exchanged(kind: str) -> Fault:
    def inject(store, rng):
        keys = [read_commits(store)[shard].objects[kind].key for shard in (0, 1)]
        first, second = (path_of(store, key) for key in keys)
        data = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(data)
        return keys[0]

    return inject


def changed_document(key: str, change: Callable[[bytes, Any], bytes]) -> Fault:
    def inject(store, rng):
        path = path_of(store, key)
        path.write_bytes(change(path.read_bytes(), rng))
        return key

    return inject


# --- rows that the receipt vouches for -------------------------------------------------------


def changed_row(name: str, value: Callable[[Any], Any], kind: str = "index") -> Fault:
    """A value of the index, or of a rejected pair, with a receipt that vouches for it."""

    def inject(store, rng):
        receipt = a_receipt(store, rng)
        path = path_of(store, receipt.objects[kind].key)
        table = pq.read_table(path)
        rows = table.to_pylist()
        row = rows[int(rng.integers(len(rows)))] if kind == "index" else rows[0]
        row[name] = value(row[name])
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
        recommit(store, receipt)
        return f"{receipt.shard:06d}"

    return inject


def another(text: str) -> str:
    return f"{text} or other"


ROWS: dict[str, Fault] = {
    "agreed: prompt": changed_row("prompt", another),
    "agreed: prompt id": changed_row("prompt_id", lambda value: value[::-1] + "0"),
    "agreed: seed": changed_row("seed", lambda value: value + 1),
    "agreed: candidate": changed_row("candidate", lambda value: value + 1),
    "agreed: sample id": changed_row("sample_id", lambda value: value[:-1] + "x"),
    "agreed: shard": changed_row("shard", lambda value: value + 1),
    "agreed: row": changed_row("row", lambda value: value + 1),
    "agreed: width": changed_row("width", lambda value: value + 8),
    "agreed: height": changed_row("height", lambda value: value - 8),
    "agreed: focal length": changed_row("fx", lambda value: 40.0 if value is None else None),
    "agreed: principal point": changed_row("cx", lambda value: 1.0 if value is None else value + 1),
    "agreed: intrinsics source": changed_row("intrinsics_source", lambda value: "rendered"),
    "agreed: encoding": changed_row("depth_encoding", lambda value: "log"),
    "agreed: unit no number": changed_row("depth_unit_per_code", lambda value: float("nan")),
    "agreed: unit negative": changed_row("depth_unit_per_code", lambda value: -1.0),
    "agreed: unit doubled": changed_row("depth_unit_per_code", lambda value: 2 * value),
    "agreed: near": changed_row("depth_near", lambda value: 0.5 * value),
    "agreed: far": changed_row("depth_far", lambda value: 2 * value),
    "agreed: kind": changed_row("depth_kind", lambda value: "metric_z"),
    "agreed: valid fraction": changed_row("valid_fraction", lambda value: value / 2),
    "agreed: score": changed_row("check_registration", lambda value: value + 1),
    "agreed: score that abstained": changed_row("check_valid_fraction", lambda value: 0.5),
    "agreed: mode": changed_row("mode", lambda value: "d2i"),
    "agreed: licence": changed_row("licence", lambda value: "public domain"),
    "agreed: source type": changed_row("digital_source_type", another),
    "agreed: slot": changed_row("slot_colour", lambda value: [*value, "green"]),
    "agreed: model": changed_row("model_id", lambda value: "other"),
    "agreed: perceptual hash": changed_row("phash", lambda value: value ^ 1),
    **{
        f"agreed: {member} {what}": changed_row(f"{member}_{what}", lambda value: value + 1)
        for member in layout.MEMBERS
        for what in ("offset", "size", "crc32")
    },
}


OF_REJECTS: dict[str, Fault] = {
    **{
        f"rejected tar: {name}": changed_object(layout.REJECTED_TAR, change)
        for name, change in BYTES.items()
    },
    "rejected tar: lost": lost(layout.REJECTED_TAR),
    "rejected tar: exchanged": exchanged(layout.REJECTED_TAR),
} | {
    f"agreed: rejected {name}": changed_row(name, change, "rejects")
    for name, change in (
        ("prompt", another),
        ("seed", lambda value: value + 1),
        ("sample_id", lambda value: value[:-1] + "x"),
        ("check_registration", lambda value: value + 1),
        ("phash", lambda value: value ^ 1),
        ("width", lambda value: value + 8),
        ("depth_far", lambda value: 2 * value),
        ("model_id", another),
        ("rgb_offset", lambda value: None),
        ("depth_size", lambda value: value + 1),
        ("json_crc32", lambda value: value + 1),
        ("outcome", lambda value: "quarantined"),
    )
}


# --- members that index and receipt vouch for ------------------------------------------------


def changed_member(member: str, change: Callable[..., bytes]) -> Fault:
    """Other bytes of a member; offsets, sizes and CRCs of the index follow, and the receipt."""

    def inject(store, rng):
        receipt = a_receipt(store, rng)
        tar, index = (path_of(store, receipt.objects[kind].key) for kind in ("tar", "index"))
        table = pq.read_table(index)
        rows = table.to_pylist()
        chosen = int(rng.integers(len(rows)))
        with tarfile.open(tar) as archive:
            members = [(one.name, archive.extractfile(one).read()) for one in archive]
        name = f"{rows[chosen]['sample_id']}.{layout.MEMBERS[member].suffix}"
        suffix = layout.MEMBERS[member].suffix
        others = [data for other, data in members if other.endswith(suffix) and other != name]
        members = [
            (other, change(data, rng, others) if other == name else data) for other, data in members
        ]
        write_tar(tar, members, rows)
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), index)
        recommit(store, receipt)
        return rows[chosen]["sample_id"]

    return inject


def write_tar(path, members, rows):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    contents = dict(members)
    with tarfile.open(path) as archive:
        placed = {one.name: one for one in archive}
    for row in rows:
        for member, stored in layout.MEMBERS.items():
            name = f"{row['sample_id']}.{stored.suffix}"
            row[f"{member}_offset"] = placed[name].offset_data
            row[f"{member}_size"] = placed[name].size
            row[f"{member}_crc32"] = zlib.crc32(contents[name])


def edited_json(change: Callable[[dict[str, Any]], Any]) -> Callable[..., bytes]:
    def edit(data, rng, others):
        about = json.loads(data)
        change(about)
        return json.dumps(about).encode()

    return edit


def other_pixels(data, rng, others):
    rgb = codecs.decode_jpeg(data)
    return codecs.encode_jpeg(np.ascontiguousarray(rgb[::-1]))


def other_depth(data, rng, others):
    codes = codecs.decode_codes(data)
    depth, _ = codecs.encode_depth(codes[::-1].astype(np.float32))
    return depth


MEMBERS: dict[str, Fault] = {
    "agreed: image of another sample": changed_member("rgb", lambda data, rng, others: others[0]),
    "agreed: depth of another sample": changed_member("depth", lambda data, rng, others: others[0]),
    "agreed: description of another": changed_member("json", lambda data, rng, others: others[0]),
    "agreed: image upside down": changed_member("rgb", other_pixels),
    "agreed: depth upside down": changed_member("depth", other_depth),
    "agreed: image cut": changed_member("rgb", lambda data, rng, others: data[:-40]),
    "agreed: depth cut": changed_member("depth", lambda data, rng, others: data[:-40]),
    "agreed: image no image": changed_member("rgb", lambda data, rng, others: b"GIF89a"),
    "agreed: description empty": changed_member("json", lambda data, rng, others: b""),
    "agreed: description no JSON": changed_member("json", lambda data, rng, others: data[:-1]),
    "agreed: description a list": changed_member("json", lambda data, rng, others: b"[]"),
    "agreed: description deep": changed_member("json", lambda data, rng, others: b"[" * 200_000),
    "agreed: described seed": changed_member("json", edited_json(lambda a: a.update(seed=1))),
    "agreed: described prompt": changed_member("json", edited_json(lambda a: a.pop("prompt"))),
    "agreed: described unit": changed_member(
        "json", edited_json(lambda a: a["depth"].update(unit_per_code=1.0))
    ),
    "agreed: described score": changed_member(
        "json", edited_json(lambda a: a["scores"].update(registration=None))
    ),
    "agreed: described hashes": changed_member("json", edited_json(lambda a: a.pop("sha256"))),
}


# --- receipts and run.json -------------------------------------------------------------------


def changed_json(key: Callable[[int], str], change: Callable[[dict[str, Any]], Any]) -> Fault:
    def inject(store, rng):
        shard = int(rng.integers(2))
        path = path_of(store, key(shard))
        values = json.loads(path.read_bytes())
        change(values)
        path.write_text(json.dumps(values))
        # A receipt that says other than an object is told by the object.
        return f"{shard:06d}" if key(shard) != layout.RUN_KEY else layout.RUN_KEY

    return inject


def in_receipt(**changes: Any) -> Fault:
    return changed_json(layout.commit_key, lambda values: values.update(changes))


def in_run(**changes: Any) -> Fault:
    return changed_json(lambda shard: layout.RUN_KEY, lambda values: values.update(changes))


def lost_receipt(store, rng):
    path_of(store, layout.commit_key(2)).unlink()
    return f"2 receipts in {layout.COMMITS_FOLDER}/"


DOCUMENTS: dict[str, Fault] = {
    "receipt: created": in_receipt(created="yesterday"),
    "receipt: seconds": in_receipt(seconds={"total": -1}),
    "receipt: seconds text": in_receipt(seconds={"total": "1"}),
    "receipt: counts": in_receipt(accepted=3),
    "receipt: count true": in_receipt(rejected=True),
    "receipt: another run": in_receipt(run="other"),
    "receipt: another shard": in_receipt(shard=7),
    "receipt: another run.json": in_receipt(run_sha256="0" * 64),
    "receipt: attempt": in_receipt(attempt="../../x"),
    "receipt: key outside": changed_json(
        layout.commit_key, lambda values: values["objects"]["tar"].update(key="../other/a.tar")
    ),
    "receipt: size": changed_json(
        layout.commit_key, lambda values: values["objects"]["tar"].update(size=1)
    ),
    "receipt: hash": changed_json(
        layout.commit_key, lambda values: values["objects"]["index"].update(sha256="a" * 64)
    ),
    "receipt: cut": changed_document(layout.commit_key(1), lambda data, rng: data[:-9]),
    "receipt: last one lost": lost_receipt,
    "run.json: settings": in_run(settings={"seed": 9, "shard_size": tiny_run.SHARD_SIZE}),
    "run.json: fingerprint": in_run(fingerprint="0" * 64),
    "run.json: versions": in_run(versions={"mfsynth": "9"}),
    "run.json: licence": in_run(model={"id": "embedded", "revision": "r1", "licence": "mit"}),
    "run.json: created": in_run(created="2020-01-01T00:00:00+00:00"),
    "run.json: config": in_run(config={}),
    **{
        f"{key}: {name}": changed_document(key, BYTES[name])
        for key in (layout.MANIFEST_KEY, layout.CROISSANT_KEY, layout.CARD_KEY)
        for name in ("a bit", "cut")
    },
}

# --- segments --------------------------------------------------------------------------------


def segment_key(store, kind) -> str:
    names = map(layout.parse_segment_key, store.list(layout.SEGMENTS_FOLDER))
    return next(name.key for name in names if name.kind == kind)


def changed_segment(kind: str, change: Callable[[bytes, Any], bytes]) -> Fault:
    def inject(store, rng):
        key = segment_key(store, kind)
        path = path_of(store, key)
        path.write_bytes(change(path.read_bytes(), rng))
        return key

    return inject


def put_segment(store, kind, data: bytes) -> layout.SegmentName:
    """In the place of what is there, under the name that it then has."""
    key = segment_key(store, kind)
    changed = replace(layout.parse_segment_key(key), sha256=hashlib.sha256(data).hexdigest())
    path_of(store, key).unlink()
    path_of(store, changed.key).write_bytes(data)
    return changed


def in_segment(change: Callable[[dict[str, Any]], Any]) -> Fault:
    """Other words in a segment's document, under a name that fits."""

    def inject(store, rng):
        document = json.loads(path_of(store, segment_key(store, "receipts")).read_bytes())
        change(document)
        return put_segment(store, "receipts", json.dumps(document).encode()).key

    return inject


def other_attempt(document):
    text = document["receipts"][1]
    attempt = json.loads(text)["attempt"]
    document["receipts"][1] = text.replace(attempt, attempt[::-1])


def changed_rows(store, rng):
    """Another prompt in a segment's rows, whose document vouches for it."""
    table = pq.read_table(path_of(store, segment_key(store, "index")))
    rows = table.to_pylist()
    rows[int(rng.integers(len(rows)))]["prompt"] = "another"
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), sink)
    data = sink.getvalue().to_pybytes()
    name = put_segment(store, "index", data)
    stored = {"key": name.key, "size": len(data), "sha256": name.sha256, "rows": len(rows)}
    in_segment(lambda document: document.update(index=stored))(store, rng)
    return name.key


def lost_rows(store, rng):
    key = segment_key(store, "index")
    path_of(store, key).unlink()
    return key


def strangers_file(store, rng):
    path_of(store, f"{layout.SEGMENTS_FOLDER}/000000-0002.json").write_text("{}")
    return "000000-0002.json"


SEGMENTS: dict[str, Fault] = {
    **{
        f"segment {kind}: {name}": changed_segment(kind, change)
        for kind in layout.SEGMENT_KINDS
        for name, change in BYTES.items()
    },
    "segment index: lost": lost_rows,
    "segment: of another run.json": in_segment(lambda d: d.update(run_sha256="0" * 64)),
    "segment: of other shards": in_segment(lambda d: d.update(first=2)),
    "segment: of another index": in_segment(lambda d: d["index"].update(sha256="0" * 64)),
    "segment: a receipt missing": in_segment(lambda d: d["receipts"].pop()),
    "segment: a receipt damaged": in_segment(lambda d: d["receipts"].__setitem__(0, "{")),
    "segment: receipts exchanged": in_segment(lambda d: d["receipts"].reverse()),
    "segment: a stranger's file": strangers_file,
    "agreed: segment's receipt": in_segment(other_attempt),
    "agreed: segment's row": changed_rows,
}

# --- views ----------------------------------------------------------------------------------


def in_view(**changes: Any) -> Fault:
    """Other words in a view, whose digest vouches for them."""

    def inject(store, rng):
        view = read_view(store, VIEW)
        path_of(store, view.key).write_bytes(replace(view, **changes).to_bytes())
        return view.key

    return inject


def other_candidate(store, rng):
    """Another candidate in the place of one that is in it."""
    view = read_view(store, VIEW)
    chosen = view.selected(2 * tiny_run.SHARD_SIZE)
    chosen[[0, 5]] = chosen[[5, 0]]
    path_of(store, view.key).write_bytes(replace(view, bits=pack(chosen)).to_bytes())
    return view.key


def strange_view(store, rng):
    path_of(store, f"{layout.VIEWS_FOLDER}/a view.json").write_text("{}")
    return "a view.json"


VIEWS: dict[str, Fault] = {
    **{
        f"view: {name}": changed_document(layout.view_key(VIEW), change)
        for name, change in BYTES.items()
    },
    "view: of another run.json": in_view(run_sha256="0" * 64),
    "view: of other objects": in_view(objects_sha256="0" * 64),
    "view: of fewer shards": in_view(shards=1),
    "view: of more shards": in_view(shards=3),
    "view: another name": in_view(name="other"),
    "view: a stranger's file": strange_view,
    "agreed: view's rules": in_view(rules=Rules()),
    "agreed: view's count": in_view(returned=1),
    "agreed: what a view left out": in_view(left_out={"registration": 5}),
    "agreed: view's candidates": other_candidate,
}

# --- what Energon reads --------------------------------------------------------------------


def lost_key(key: str) -> Fault:
    def inject(store, rng):
        path_of(store, key).unlink()
        return key

    return inject


def tar_index(change: Callable[[Path, Any], object]) -> Fault:
    def inject(store, rng):
        key = layout.tar_index_key(a_receipt(store, rng).objects["tar"].key)
        change(path_of(store, key), rng)
        return key

    return inject


def all_but_tar_indexes(store, rng):
    shutil.rmtree(path_of(store, ".nv-meta"))
    return ".nv-meta/.info.json"


ENERGON_KEYS = ("index.sqlite", "index.uuid", "split.yaml", "dataset.yaml", ".info.json")
ENERGON: dict[str, Fault] = {
    **{f"energon: {name} lost": lost_key(f".nv-meta/{name}") for name in ENERGON_KEYS},
    **{
        f"energon: {name}: {how}": changed_document(f".nv-meta/{name}", BYTES[how])
        for name in ENERGON_KEYS
        for how in ("cut", "empty")
    },
    "energon: tar index lost": tar_index(lambda path, rng: path.unlink()),
    "energon: tar index: a bit": tar_index(
        lambda path, rng: path.write_bytes(flip(path.read_bytes(), rng))
    ),
    "energon: all but tar indexes lost": all_but_tar_indexes,
}

KINDS: dict[str, Fault] = {
    **{
        f"{kind}: {name}": changed_object(kind, change)
        for kind in layout.OBJECT_KINDS
        for name, change in BYTES.items()
    },
    **{f"{kind}: lost": lost(kind) for kind in layout.OBJECT_KINDS},
    **{f"{kind}: exchanged": exchanged(kind) for kind in layout.OBJECT_KINDS},
    **ROWS,
    **MEMBERS,
    **DOCUMENTS,
    **SEGMENTS,
    **OF_REJECTS,
    **VIEWS,
    **ENERGON,
}


def test_there_are_enough_of_them():
    assert len(KINDS) >= 66
    assert REPEATS * len(KINDS) >= 300


@pytest.mark.parametrize("name", KINDS)
def test_a_fault_is_found_and_its_file_named(sound, with_a_view, for_energon, tmp_path, name):
    whole = with_a_view if name in {**OF_REJECTS, **VIEWS} else sound
    whole = for_energon if name in ENERGON else whole
    for repeat in range(REPEATS):
        folder = tmp_path / str(repeat)
        shutil.copytree(whole, folder)
        store = ObjectStore.open(folder)
        rng = np.random.default_rng([repeat, zlib.crc32(name.encode())])
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        where = KINDS[name](store, rng)
        after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert before != after
        report = verify_run(store)
        assert any(where in line for line in report.problems), (where, report.problems)
        assert all(len(line) < 1000 and "\n" not in line for line in report.problems)
        if name.startswith("segment"):
            assert_readers_do_without_it(store, ObjectStore.open(sound))


def assert_readers_do_without_it(store, whole):
    assert read_commits(store) == read_commits(store, from_segments=False) == read_commits(whole)
    assert RGBDDataset(store.url).index.equals(RGBDDataset(whole.url).index)
    assert [s.sample_id for s in RGBDDataset(store.url)] == [
        s.sample_id for s in RGBDDataset(whole.url)
    ]
