"""Runs of earlier formats stay readable, verifiable and exportable, and are never continued.

`tests/data/format1` is one of version 1, which mfsynth 0.1 wrote, `format2_draft1` one of a draft
of version 2; both with the stand-in for a model.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.reports import render_page
from mfsynth.reports.collect import collect_report
from mfsynth.runs.reproduce import find_candidate
from mfsynth.shards import layout
from mfsynth.shards.commits import read_commits
from mfsynth.shards.finalize import finalize
from mfsynth.shards.refilter import refilter
from mfsynth.shards.run_manifest import open_run, read_run
from mfsynth.shards.status import run_status
from mfsynth.shards.verify import verify_run
from mfsynth.shards.views import Bound, Rules
from mfsynth.storage.store import ObjectStore

DATA = Path(__file__).parents[1] / "data"
FIRST = DATA / "format1"


@pytest.fixture
def first(tmp_path) -> ObjectStore:
    """A copy that a test may change."""
    shutil.copytree(FIRST, tmp_path / "first")
    return ObjectStore.open(tmp_path / "first")


def test_its_pairs_are_read():
    dataset = RGBDDataset(str(FIRST))
    assert len(dataset) == 7
    names = [sample.sample_id for sample in dataset]
    assert names[0] == "first-000000000"
    assert names == sorted({*names})
    sample = dataset[0]
    assert sample.rgb.shape == (16, 16, 3)
    # The stand-in makes halves of 1 and of 2.
    np.testing.assert_allclose(np.unique(sample.depth), [1, 2], rtol=1e-3)
    assert sample.scores["dynamic_range"] == pytest.approx(2, rel=1e-3)
    assert sample.prompt


@pytest.mark.parametrize("deep", [True, False])
def test_it_is_verified(deep):
    report = verify_run(ObjectStore.open(FIRST), deep)
    assert report.problems == ()
    assert (report.shards, report.pairs) == (2, 7)


def test_what_changed_in_it_is_found(first):
    key = read_commits(first)[1].objects["tar"].key
    data = bytearray(first.read_bytes(key))
    data[600] ^= 1
    first.put_bytes(key, bytes(data))
    values = json.loads(first.read_bytes("run.json"))
    values["settings"]["sampler"]["steps"] = 30
    first.put_bytes("run.json", json.dumps(values).encode())
    found = verify_run(first).problems
    assert "run.json: its settings are not those of its fingerprint" in found
    assert f"shard 000001: {key}: its bytes changed (SHA-256 differs)" in found


def test_it_is_finalized_reported_and_its_status_told(first):
    assert finalize(first) == ["croissant.json", "README.md", "manifest.json"]
    assert json.loads(first.read_bytes("manifest.json"))["format_version"] == 1
    assert run_status(first).pairs == 7
    report = collect_report(first.url)
    assert report.name == "first"
    assert len(report.pairs) == 7
    assert render_page(report)


def test_resuming_it_is_refused_in_a_line_that_says_why(first):
    stored = read_run(first)
    before = first.read_bytes("run.json")
    with pytest.raises(
        MfsynthError, match=r"of format version 1; .*noise and keys.*not resumed"
    ) as info:
        open_run(first, replace(stored, format_version=layout.FORMAT_VERSION))
    assert "\n" not in str(info.value)
    assert first.read_bytes("run.json") == before
    with pytest.raises(MfsynthError, match="of format version 1; "):
        find_candidate(first.url, 0)


@pytest.mark.parametrize(
    ("draft", "folder", "licence"),
    [("2-draft.1", "format2_draft1", None), ("2-draft.2", "format2", "apache-2.0")],
)
def test_a_run_of_an_earlier_draft_is_read_verified_finalized_and_has_views(
    tmp_path, draft, folder, licence
):
    shutil.copytree(DATA / folder / "run", tmp_path / "run")
    store = ObjectStore.open(tmp_path / "run")
    stored = read_run(store)
    assert stored.format_version == draft
    assert verify_run(store).problems == ()
    samples = list(RGBDDataset(tmp_path / "run"))
    assert samples
    assert {(sample.licence, *sample.slots) for sample in samples} == {(licence,)}
    finalize(store)
    refilter(store, "few", Rules({"dynamic_range": Bound(1.0, is_minimum=True)}, None, 1))
    with pytest.raises(MfsynthError, match="no perceptual hashes, which runs of earlier formats"):
        refilter(store, "unique", Rules(duplicates_within=6))
    assert verify_run(store).problems == ()
    named = json.loads(store.read_bytes("manifest.json"))["rejects_columns"]
    assert [c["name"] for c in named] == [c["name"] for c in stored.reject_columns]


def test_a_run_of_the_first_draft_is_not_continued(tmp_path):
    shutil.copytree(DATA / "format2_draft1" / "run", tmp_path / "run")
    store = ObjectStore.open(tmp_path / "run")
    stored = read_run(store)
    with pytest.raises(MfsynthError, match=r"of format version 2-draft\.1; .*not resumed"):
        open_run(store, replace(stored, format_version=layout.FORMAT_VERSION))
