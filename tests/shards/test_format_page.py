"""`docs/reference/format.md` names all that is stored, by the names that it has."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import tiny_run

from mfsynth.shards import layout
from mfsynth.shards.columns import ADDED
from mfsynth.shards.reading import SEGMENT_NONCE, SEGMENT_OF
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE, Receipt, StoredObject
from mfsynth.shards.run_manifest import RunManifest, ScoreInfo
from mfsynth.shards.segments import SIZES, segment_document
from mfsynth.shards.selection import RETURNED
from mfsynth.shards.tables import SCORE_PREFIX, SLOT_PREFIX, contents_of_run
from mfsynth.shards.view_documents import TAR
from mfsynth.shards.views import Bound, Rules, View
from mfsynth.shards.writer import encode_sample

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "format.md").read_text(encoding="utf-8")
# What is there; what will be there is named apart.
PRESENT = PAGE.partition("## Earlier versions")[0]


def section(title: str) -> set[str]:
    """The names in backticks of a section."""
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE)
    return {*re.findall(r"`([^`\n]+)`", text)}


def key_json(value: object) -> set[str]:
    """Names of fields, those of scores and siblings apart."""
    if not isinstance(value, dict):
        return set()
    kept = {n: part for n, part in value.items() if n not in ("scores", "slots", "sha256")}
    return {*value} | {name for part in kept.values() for name in key_json(part)}


@pytest.mark.parametrize("table", ["columns", "reject_columns"])
def test_every_column_is_named(table):
    columns = {column["name"] for column in contents_of_run({}, added=ADDED)[table]}
    declared = {f"{SCORE_PREFIX}<score>", f"{SLOT_PREFIX}<slot>"}
    assert columns | declared <= section("Index")


def test_every_field_of_the_documents_is_named():
    stored = {field.name for field in fields(StoredObject)}
    assert {field.name for field in fields(RunManifest)} <= section(r"run\.json")
    assert {field.name for field in fields(ScoreInfo)} <= section(r"run\.json")
    assert {field.name for field in fields(Receipt)} | stored <= section("Receipt")


def test_every_member_and_field_of_a_sample_is_named():
    names = section("Members of a sample")
    assert {f"KEY.{member.suffix}" for member in layout.MEMBERS.values()} <= names
    assert (
        key_json(json.loads(encode_sample(tiny_run.make_sample(1), tiny_run.DECLARED).json))
        <= names
    )
    assert DIGITAL_SOURCE_TYPE in names


def test_version_and_objects_are_those_of_the_code():
    for version in layout.WRITTEN_VERSIONS:
        assert f'`"{version}"`' in PRESENT
    for kind in (*layout.OBJECT_KINDS, layout.REJECTED_TAR):
        assert layout.object_key(kind, "<run>", 12, "a").replace(".a.", ".<attempt>.") in PRESENT
    for key in (layout.RUN_KEY, layout.commit_key(12), layout.CARD_KEY, layout.MANIFEST_KEY):
        assert key in PRESENT
    for kind in layout.SEGMENT_KINDS:
        name = layout.SegmentName(kind, 0, SIZES[0], "<sha256>")
        assert name.key in PRESENT


def test_every_field_of_a_view_is_named():
    view = View("strict", "", 1, "", Rules({"registration": Bound(1, True)}), {}, 0, 0, b"")
    fields = json.loads(view.to_bytes())
    named = section("Views")
    assert {*fields, *fields["limits"]["registration"], RETURNED, TAR, layout.VIEW_ROWS} <= named
    assert layout.view_key("<name>") in PRESENT
    assert layout.VIEW_NAME.pattern in named


def test_every_field_of_a_segment_is_named():
    index = layout.SegmentName("index", 0, 1, "0" * 64)
    document = json.loads(segment_document("", index, 1, 1, []))
    named = section("Segments")
    assert key_json(document) | {SEGMENT_NONCE.decode(), SEGMENT_OF.decode()} <= named
    assert all(str(size) in PRESENT.replace(",", "") for size in SIZES)
