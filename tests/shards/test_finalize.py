from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import tiny_run
import yaml

from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.copy import copy_run
from mfsynth.shards.documents.card import data_card, first_card
from mfsynth.shards.finalize import finalize
from mfsynth.shards.run_manifest import ScoreInfo, open_run, read_run
from mfsynth.shards.verify import verify_run
from mfsynth.storage.store import ObjectStore


def documents(store):
    finalize(store)
    card = store.read_bytes("README.md").decode()
    return (
        json.loads(store.read_bytes("manifest.json")),
        json.loads(store.read_bytes("croissant.json")),
        yaml.safe_load(card.split("---\n")[1]),
        card,
    )


def test_the_manifest_lists_every_committed_shard_without_a_gap(run_store):
    manifest, *_ = documents(run_store)
    assert [shard["shard"] for shard in manifest["shards"]] == [0, 1, 2]
    assert [shard["first_candidate"] for shard in manifest["shards"]] == [0, 6, 12]
    receipts = read_commits(run_store)
    for shard in manifest["shards"]:
        for kind in layout.OBJECT_KINDS:
            stored = receipts[shard["shard"]].objects[kind]
            assert shard[kind] == {
                "key": stored.key,
                "size": stored.size,
                "sha256": stored.sha256,
            }
    assert manifest["counts"]["pairs"] == 8
    assert manifest["sizes"] == [[32, 24]]
    assert manifest["scores"] == list(tiny_run.SCORES)
    assert {"name": "depth_unit_per_code", "type": "double", "nullable": False} in manifest[
        "index_columns"
    ]


@pytest.mark.parametrize(
    ("mode", "tags", "collected"),
    [
        ("joint", ["generated", "synthetic", "trainedAlgorithmicMedia"], ["Synthetic"]),
        (
            "d2i",
            ["retextured", "synthetic", "compositeWithTrainedAlgorithmicMedia"],
            ["Synthetic", "Secondary Data Analysis"],
        ),
        ("i2d", ["annotated", "machine-generated-depth"], ["Secondary Data Analysis"]),
    ],
)
def test_documents_are_tagged_by_how_the_pairs_were_made(tmp_path, mode, tags, collected):
    settings = {**tiny_run.SETTINGS, "sampler": {"mode": mode}}
    if mode != "joint":
        settings["source"] = {"digest": "d"}
    manifest = replace(tiny_run.make_manifest(), settings=settings)
    store = ObjectStore.open(str(tmp_path / "run"))
    open_run(store, manifest)
    commit(store, tiny_run.upload_shard(store, 0))
    _, croissant, matter, _ = documents(store)
    first = yaml.safe_load(first_card(manifest).split("---\n")[1])
    assert matter["tags"] == first["tags"] == ["rgb-d", "depth", *tags, "webdataset"]
    assert croissant["keywords"] == ["rgb-d", "depth", *tags]
    assert croissant["rai:dataCollectionType"] == collected


def test_the_card_has_the_licence_and_says_that_a_model_made_it(run_store):
    _, _, matter, card = documents(run_store)
    assert matter["license"] == "apache-2.0"
    assert "trainedAlgorithmicMedia" in matter["tags"]
    assert "digitalsourcetype/trainedAlgorithmicMedia" in card
    assert "relative: not metres" in card
    assert "| registration | 8 |" in card


@pytest.mark.parametrize(
    ("licence", "matter"),
    [
        ("CC-BY-NC-4.0", {"license": "cc-by-nc-4.0"}),
        (
            "FLUX Non-Commercial License",
            {"license": "other", "license_name": "FLUX Non-Commercial License"},
        ),
        (None, {"license": "unknown"}),
    ],
)
def test_the_models_licence_is_the_data_sets(store, licence, matter):
    model = {"id": "m"} if licence is None else {"id": "m", "licence": licence}
    open_run(store, replace(tiny_run.make_manifest(), model=model))
    commit(store, tiny_run.upload_shard(store, 0))
    _, _, found, _ = documents(store)
    assert matter.items() <= found.items()


def test_the_card_says_what_the_scores_mean_as_far_as_the_run_does(run_store, tmp_path):
    assert "- `" not in documents(run_store)[-1].split("## Checks")[1].split("## Provenance")[0]
    scores = {
        "registration": ScoreInfo("registration", "higher", note="shift-z", limit=1.5),
        "off": ScoreInfo("off by", "lower", "px", "how far it is off", 2.0),
        "hue": ScoreInfo("hue", note="which colour"),
    }
    manifest = replace(tiny_run.make_manifest(), scores=scores)
    run_store = tiny_run.make_run(str(tmp_path / "described"), manifest=manifest)
    card = documents(run_store)[-1]
    assert "- `registration` (registration): shift-z; at least 1.5\n" in card
    assert "- `off` (off by): how far it is off; at most 2 px\n" in card
    assert "- `hue` (hue): which colour\n" in card


def test_the_card_says_what_others_say_as_text(tmp_path):
    attack = "<script>alert(1)</script>\n# now `code` [link](https://x) | cell \x1b[2J & *b*"
    scores = {f"bad`\n{attack}": ScoreInfo(attack, note=attack, unit=attack, limit=1.0)}
    model = {"id": attack, "revision": attack, "licence": attack}
    manifest = replace(tiny_run.make_manifest(), scores=scores, model=model)
    run_store = tiny_run.make_run(str(tmp_path / "described"), manifest=manifest)
    *_, matter, card = documents(run_store)
    prose = card.split("---\n", 2)[2].split("## Conventions")[1]
    assert prose.count("alert(1)") > 4
    prose = re.sub(r"(?<!\\)`[^`]*`", "", prose)  # in code, nothing has a meaning
    assert not re.search(r"(?<!\\)(<script|\[link|\| cell|`code|\*b)", prose)
    assert not re.search(r"^# now", card, re.MULTILINE)
    assert {c for c in card if not c.isprintable()} == {"\n"}
    assert "\x1b" not in matter["license_name"]


def test_croissant_names_every_file_and_every_column(run_store):
    manifest, croissant, *_ = documents(run_store)
    assert croissant["conformsTo"][0] == "http://mlcommons.org/croissant/1.1"
    assert re.fullmatch(r"\d+\.0\.3(-[0-9a-z.]+)?", croissant["version"])
    assert croissant["license"] == "https://spdx.org/licenses/Apache-2.0.html"
    files = {
        each["@id"]: each["sha256"]
        for each in croissant["distribution"]
        if each["@type"] == "cr:FileObject"
    }
    assert files == {
        shard[kind]["key"]: shard[kind]["sha256"]
        for shard in manifest["shards"]
        for kind in layout.OBJECT_KINDS
    }
    (records,) = croissant["recordSet"]
    columns = [field["source"]["extract"]["column"] for field in records["field"]]
    assert columns == [column["name"] for column in manifest["index_columns"]]
    ids = {each["@id"] for each in croissant["distribution"]}
    assert all(field["source"]["fileSet"]["@id"] in ids for field in records["field"])


def test_croissant_is_valid_for_its_own_library_which_reads_how_the_data_came_to_be(run_store):
    mlcroissant = pytest.importorskip("mlcroissant")
    finalize(run_store)
    path = run_store.local_root / "croissant.json"
    dataset = mlcroissant.Dataset(jsonld=path)
    about = dataset.metadata
    assert not about.ctx.issues.errors
    assert about.ctx.is_v1_1()
    ids = [record["pairs/sample_id"] for record in dataset.records("pairs")]
    assert len(ids) == 8
    assert about.data_collection.startswith("Image and depth were made by a generative model")
    assert about.data_collection_type == ["Synthetic"]
    assert about.machine_annotation_tools == ["model: embedded (revision r1), licence apache-2.0"]
    assert "Depth is relative, not metres" in about.data_limitations[1]
    assert "Of 18 candidates 8 were left out" in about.data_preprocessing_protocol[0]
    assert about.data_biases
    assert about.personal_sensitive_information
    written = about.to_json()
    assert written["rai:hasSyntheticData"] is True
    assert written["prov:wasGeneratedBy"]["prov:label"] == "mfsynth 0.1.0"


def test_finalizing_again_gives_the_same_and_later_follows_the_run(run_store):
    first = documents(run_store)
    assert documents(run_store) == first
    commit(run_store, tiny_run.upload_shard(run_store, 3))
    assert documents(run_store)[0]["counts"]["shards"] == 4


def test_what_no_commit_refers_to_is_in_no_document(run_store):
    loser = tiny_run.upload_shard(run_store, 1)
    finalize(run_store)
    for key in ("manifest.json", "croissant.json", "README.md"):
        assert loser.attempt.encode() not in run_store.read_bytes(key)


def test_a_run_of_rejects_alone_can_be_finalized(store):
    open_run(store, tiny_run.make_manifest())
    rejects = [tiny_run.make_reject(i) for i in range(tiny_run.SHARD_SIZE)]
    commit(store, tiny_run.upload_shard(store, 0, rejects))
    manifest, *_ = documents(store)
    assert manifest["counts"]["pairs"] == 0


def test_a_gap_is_one_clear_line_and_nothing_is_written(run_store):
    run_store.delete(layout.commit_key(1))
    with pytest.raises(MfsynthError, match="shard 1 missing; start the run again"):
        finalize(run_store)
    assert not run_store.exists("manifest.json")


def test_a_run_without_a_commit_is_one_clear_line(store):
    open_run(store, tiny_run.make_manifest())
    with pytest.raises(MfsynthError, match="no shard is committed yet"):
        finalize(store)


def test_a_damaged_index_is_one_clear_line(run_store):
    key = read_commits(run_store)[1].objects["index"].key
    run_store.put_bytes(key, b"PAR1")
    with pytest.raises(MfsynthError, match=f"{key}: 4 bytes, the receipt says"):
        finalize(run_store)


def other_words(monkeypatch, module):
    """As of a version of mfsynth that says the same in other words."""
    card = data_card
    monkeypatch.setattr(f"{module}.data_card", lambda *some: card(*some).replace("Made", "MADE"))


def test_documents_that_another_version_wrote_of_these_shards_are_sound(
    run_store, tmp_path, monkeypatch
):
    with monkeypatch.context() as other:
        other_words(other, "mfsynth.shards.finalize")
        finalize(run_store)
    written = {key: run_store.read_bytes(key) for key in layout.DOCUMENT_KEYS}
    assert b"MADE with" in written[layout.CARD_KEY]
    assert verify_run(run_store).problems == ()
    copied = ObjectStore.open(tmp_path / "copy")
    assert copy_run(run_store, copied).left_out == ()
    assert {key: copied.read_bytes(key) for key in written} == written
    for key, data in written.items():
        run_store.put_bytes(key, data.replace(b"shard", b"shart", 1))
        assert any(line.startswith(f"{key}: ") for line in verify_run(run_store).problems)
        run_store.put_bytes(key, data)
    run_store.delete(layout.CROISSANT_KEY)
    [problem] = verify_run(run_store).problems
    assert problem.startswith(f"{layout.CROISSANT_KEY}: ")
    assert copy_run(run_store, ObjectStore.open(tmp_path / "other")).left_out == (
        layout.CROISSANT_KEY,
    )
    tiny_run.make_missing_shards(run_store.url, 4)
    stale = {line.split(": ")[0] for line in verify_run(run_store).problems}
    assert stale >= {layout.MANIFEST_KEY, layout.CARD_KEY}


def test_a_run_that_another_version_began_is_sound(run_store):
    card = first_card(read_run(run_store)).replace("Made with", "MADE with")
    run_store.put_bytes(layout.CARD_KEY, card.encode())
    assert verify_run(run_store).problems == ()
    run_store.put_bytes(layout.CARD_KEY, b"# another")
    assert len(verify_run(run_store).problems) == 1
