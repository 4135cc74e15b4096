"""What a view is given away with: its rows as one table, manifest, card, Croissant."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_run
import yaml
from click.testing import CliRunner
from locked_folders import locked

from mfsynth.cli.finalize import finalize as command
from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.shards import codecs, layout
from mfsynth.shards.copy import copy_run
from mfsynth.shards.documents.card import data_card
from mfsynth.shards.finalize import finalize
from mfsynth.shards.refilter import refilter
from mfsynth.shards.verify import verify_run
from mfsynth.shards.view_documents import finalize_view
from mfsynth.shards.views import Bound, Rules
from mfsynth.storage.store import ObjectStore

LOOSE = Rules({"registration": Bound(0.1, is_minimum=True)})
FOLDER = f"{layout.VIEWS_FOLDER}/loose"


@pytest.fixture
def given(tmp_path) -> ObjectStore:
    """A run with a view that brings rejected pairs back, both finalized."""
    manifest = tiny_run.make_manifest(keeps_rejects=True)
    store = tiny_run.make_run(str(tmp_path / "run"), 2, manifest)
    refilter(store, "loose", LOOSE)
    finalize(store)
    said = CliRunner().invoke(command, [store.url, "--view", "loose"])
    assert said.output.count(f"/{FOLDER}/") == 4
    return store


def test_the_rows_say_where_each_pair_lies_with_no_need_of_mfsynth(given):
    rows = pq.read_table(given.local_root / FOLDER / "pairs.parquet", partitioning=None).to_pylist()
    assert [row["candidate"] for row in rows] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    for row, sample in zip(rows, RGBDDataset(given.url, view="loose"), strict=True):
        data = given.read_bytes(row["tar"])
        jpeg = data[row["rgb_offset"] :][: row["rgb_size"]]
        np.testing.assert_array_equal(codecs.decode_jpeg(jpeg), sample.rgb)
        assert row["tar"].startswith("rejects/" if row["returned"] else "shards/")


def test_manifest_and_card_are_about_the_view(given):
    manifest = json.loads(given.read_bytes(f"{FOLDER}/manifest.json"))
    counts = manifest["counts"]
    assert (counts["pairs"], counts["returned"], counts["rejected"]) == (10, 2, 0)
    assert manifest["view"]["rules"] == "registration>=0.1"
    card = given.read_bytes(f"{FOLDER}/README.md").decode()
    matter = yaml.safe_load(card.split("---\n")[1])
    [config] = matter["configs"]
    assert config["data_files"] == [{"split": "train", "path": "pairs.parquet"}]
    assert 'RGBDDataset("path or URL of the run", view="loose")' in card
    assert "at least 0.1" in card


def test_croissant_is_valid_for_its_own_library_and_has_the_pairs_of_the_view(given):
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(jsonld=given.local_root / FOLDER / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    records = [*dataset.records("pairs")]
    assert [record["pairs/candidate"] for record in records] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


def test_rows_of_a_view_without_pairs_are_a_table_that_datasets_reads(given):
    datasets = pytest.importorskip("datasets")
    refilter(given, "none", Rules({"registration": Bound(1e6, is_minimum=True)}))
    finalize_view(given, "none")
    path = given.local_root / "_views" / "none" / "pairs.parquet"
    found = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
    assert [*found] == []


def test_they_are_verified_copied_kept_by_gc_and_made_again_alike(given, tmp_path):
    before = {key: given.read_bytes(key) for key in given.list()}
    assert verify_run(given).problems == ()
    finalize_view(given, "loose")
    tiny_run.collect_all(given)
    assert {key: given.read_bytes(key) for key in given.list()} == before
    copy = ObjectStore.open(tmp_path / "copy")
    assert copy_run(given, copy).views_left_out == ()
    copied = {key: copy.read_bytes(key) for key in copy.list()}
    assert copied.pop(layout.PROGRESS_KEY)
    assert copied == before


@pytest.mark.parametrize(
    ("document", "damage"),
    [
        *((document, "changed") for document in (*layout.DOCUMENT_KEYS, layout.VIEW_ROWS)),
        *((document, "removed") for document in (layout.CARD_KEY, layout.VIEW_ROWS)),
    ],
)
def test_one_that_was_changed_or_removed_is_told_of(given, tmp_path, document, damage):
    key = f"{FOLDER}/{document}"
    data = bytearray(given.read_bytes(key))
    data[len(data) // 2] ^= 1
    if damage == "changed":
        given.put_bytes(key, bytes(data))
    else:
        given.delete(key)
    told = verify_run(given).problems
    assert any(key in line and "finalize --view loose" in line for line in told)
    copied = copy_run(given, ObjectStore.open(tmp_path / "copy"))
    assert any(line.startswith(f"{key}: ") for line in copied.views_left_out)
    finalize_view(given, "loose")
    assert verify_run(given).problems == ()


@pytest.mark.parametrize("document", [layout.VIEW_ROWS, layout.MANIFEST_KEY])
def test_one_that_can_not_be_read_is_told_of(given, document):
    assert verify_run(given).problems == ()
    key = f"{FOLDER}/{document}"
    with locked(given.local_root / key):
        told = verify_run(given).problems
    assert told == (f"can't read {given.url}/{key}: Permission denied",)


def test_those_of_a_view_that_was_made_anew_are_stale(given):
    refilter(given, "loose", Rules(), replace=True)
    assert {line.split(": ")[0] for line in verify_run(given).problems} == {
        f"{FOLDER}/{document}" for document in (*layout.DOCUMENT_KEYS, layout.VIEW_ROWS)
    }


def test_a_view_that_is_not_there_is_one_line(given):
    with pytest.raises(MfsynthError, match="no view 'strict'; it has loose"):
        finalize_view(given, "strict")


def test_those_that_another_version_wrote_are_sound_and_not_read_again(given, monkeypatch):
    card = data_card
    with monkeypatch.context() as other:
        other.setattr(
            "mfsynth.shards.view_documents.data_card",
            lambda *some: card(*some).replace("Made", "MADE"),
        )
        finalize_view(given, "loose")
    assert b"MADE with" in given.read_bytes(f"{FOLDER}/README.md")
    # Of more rows than are read at once, too.
    monkeypatch.setattr("mfsynth.shards.view_documents.read_moderate", None)
    assert verify_run(given).problems == ()
