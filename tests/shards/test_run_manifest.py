from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from tiny_run import make_manifest

from mfsynth.errors import MfsynthError
from mfsynth.shards.run_manifest import RunManifest, ScoreInfo, open_run, read_run
from mfsynth.storage.store import ObjectStore


def test_the_same_fingerprint_resumes_and_run_json_stays(store):
    first = make_manifest()
    assert open_run(store, first) == first
    again = replace(first, created="2027-01-01T00:00:00+00:00", config={"target": 9})
    assert open_run(store, again) == first
    assert read_run(store) == first


def test_another_fingerprint_names_the_settings_that_differ(store):
    open_run(store, make_manifest())
    before = store.read_bytes("run.json")
    with pytest.raises(MfsynthError) as info:
        open_run(store, make_manifest(sampler={"steps": 50}, seed=1))
    message = str(info.value)
    assert "sampler.steps: 30 -> 50" in message
    assert "seed: 0 -> 1" in message
    assert "\n" not in message
    assert store.read_bytes("run.json") == before


@pytest.mark.parametrize("key", ["holiday/photo.jpg", "film.mkv.part"])
def test_a_folder_with_other_files_is_no_run_and_is_left_alone(store, key):
    store.put_bytes(key, b"x")
    with pytest.raises(MfsynthError, match=f"is not a run: .*{key}.* empty"):
        open_run(store, make_manifest())
    assert list(store.list()) == [key]


def test_a_file_is_no_run(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(MfsynthError, match="is a file"):
        open_run(ObjectStore.open(tmp_path / "file"), make_manifest())


def test_a_killed_start_does_not_stop_the_next(store):
    store.put_bytes(".run.json.0011.part", b'{"form')
    store.local_root.joinpath("shards").mkdir()
    open_run(store, make_manifest())


def test_reading_what_is_no_run_is_one_clear_line(store):
    with pytest.raises(MfsynthError, match=r"is not a run: no such folder; check the path"):
        read_run(store)
    store.local_root.mkdir(parents=True)
    with pytest.raises(MfsynthError, match=r"is not a run: it has no run\.json"):
        read_run(store)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"{}", b'{"scores": {"s": 1}}'])
def test_a_damaged_run_json_is_one_clear_line(store, text):
    store.put_bytes("run.json", text)
    with pytest.raises(MfsynthError, match=r"run.json: not the description of a run"):
        read_run(store)


@pytest.mark.parametrize("changes", [{"fingerprint": 3}, {"run": None}, {"settings": []}])
def test_a_run_json_of_wrong_types_is_one_clear_line(store, changes):
    values = json.loads(make_manifest().to_json())
    store.put_bytes("run.json", json.dumps(values | changes).encode())
    with pytest.raises(MfsynthError, match=r"run.json: not the description of a run \("):
        read_run(store)


def test_a_run_json_with_a_number_that_json_does_not_know_is_one_clear_line(store):
    values = json.loads(make_manifest(steps=math.pi).to_json())
    values["settings"]["steps"] = math.nan
    store.put_bytes("run.json", json.dumps(values).encode())
    with pytest.raises(
        MfsynthError, match=r"not the description of a run \(NaN is no finite number\)"
    ):
        read_run(store)


def test_a_run_of_another_format_is_refused(store):
    open_run(store, replace(make_manifest(), format_version=99))
    with pytest.raises(MfsynthError, match="format version 99"):
        read_run(store)


def test_keys_of_later_versions_in_run_json_are_ignored():
    scores = {"off": ScoreInfo("off by", "lower", "px", "how far it is off", 2.0)}
    manifest = replace(make_manifest(), scores=scores)
    text = manifest.to_json().replace("{", '{"invented": 1,', 1)
    text = text.replace('"label"', '"invented": 1, "label"')
    assert RunManifest.from_json(text) == manifest


def test_a_run_json_of_an_earlier_version_says_only_the_names_of_its_scores():
    values = json.loads(make_manifest().to_json())
    del values["scores"]
    manifest = RunManifest.from_json(json.dumps(values))
    assert manifest == make_manifest()
    assert manifest.score("registration") == ScoreInfo("registration")


@pytest.mark.parametrize(
    ("score", "failing"),
    [
        (ScoreInfo("s", "higher", limit=1.0), [0.9]),
        (ScoreInfo("s", "lower", limit=1.0), [1.1]),
        (ScoreInfo("s"), []),
    ],
)
def test_a_score_fails_beyond_its_limit_and_nan_never(score, failing):
    assert [value for value in (0.9, 1.0, 1.1, math.nan) if score.fails(value)] == failing
