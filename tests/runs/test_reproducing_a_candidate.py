"""One candidate again: what quarantine points to."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import replace
from functools import partial

import pyarrow.parquet as pq
import pytest
import tiny_run
from run_folders import RunFolder
from standin import Behaviour, accepted, opener
from test_driver import drive

from mfsynth.cli import main
from mfsynth.errors import MfsynthError
from mfsynth.runs import reproduce
from mfsynth.runs.events import Outcome
from mfsynth.runs.protocol import Failed, FailureCause
from mfsynth.runs.reproduce import Pair, find_candidate, make_again
from mfsynth.shards.commits import read_commits
from mfsynth.shards.run_manifest import open_run
from mfsynth.storage.store import ObjectStore

BAD = 5


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    return ObjectStore.open(tmp_path / "run")


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_model_dir, cluster):
    """A finished run, made by the stand-in, with one candidate in quarantine."""
    run_folder = RunFolder(tmp_path_factory.mktemp("made"), tiny_model_dir)
    run_folder.values["target"] = {"candidates": 8}
    run_folder.values["runtime"] |= {"ray_address": cluster, "max_attempts": 1}
    assert drive(run_folder.config(), raises=[BAD]).outcome is Outcome.FINISHED
    return run_folder


@pytest.fixture
def finished(made):
    """The same for each test, though it changes files of it."""
    files = {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()}
    yield made
    for path, data in files.items():
        path.write_bytes(data)


def stored_files(run_folder) -> dict:
    return {path: path.read_bytes() for path in run_folder.output.rglob("*") if path.is_file()}


def test_quarantine_says_why_and_what_to_type_to_see_it(finished, capsys):
    [receipt] = read_commits(ObjectStore.open(str(finished.output))).values()
    table = pq.read_table(finished.output / receipt.objects["rejects"].key).to_pylist()
    [row] = [row for row in table if row["outcome"] == "quarantined"]
    [reason] = row["reasons"]
    cause, command = reason.split("; to see it: mfsynth ")
    assert (row["candidate"], cause) == (BAD, f"ValueError: candidate {BAD} is impossible")
    before = stored_files(finished)
    with pytest.raises(SystemExit) as stop:
        # The model that the configuration names, unlike the stand-in, has nothing against it.
        main([*shlex.split(command), "--device", "cpu", "--trust"])
    assert stop.value.code == 0
    shown = capsys.readouterr()
    assert f"{row['sample_id']}: seed {row['seed']}, prompt {row['prompt']!r}" in shown.err
    assert shown.out.startswith(f"{row['sample_id']}: ")
    assert stored_files(finished) == before


def test_a_candidate_ends_as_it_did_in_its_run(finished):
    open_worker = opener(Behaviour(raises=[BAD]))
    for index in range(8):
        config, candidate = find_candidate(str(finished.output), index, trust=True)
        end = make_again(str(finished.output), config, candidate, "cpu", open_worker=open_worker)
        if index == BAD:
            assert end == Failed(FailureCause.ERROR, f"ValueError: candidate {BAD} is impossible")
        else:
            assert isinstance(end, Pair)
            assert (not end.failed) == accepted(candidate.seed)


def test_scores_are_printed_with_their_limits_and_the_pair_is_saved_as_the_run_has_it(
    finished, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(
        reproduce, "make_again", partial(make_again, open_worker=opener(Behaviour()))
    )
    members = dict(tiny_run.contents(ObjectStore.open(str(finished.output))))
    folder = tmp_path / "saved"
    outcomes = set()
    for index in {*range(8)} - {BAD}:
        with pytest.raises(SystemExit) as stop:
            main(["reproduce", str(finished.output), str(index), "--trust", "--out", str(folder)])
        assert stop.value.code == 0
        _, candidate = find_candidate(str(finished.output), index, trust=True)
        key, good = candidate.sample_id, accepted(candidate.seed)
        outcomes.add(good)
        first, *rest = capsys.readouterr().out.splitlines()
        assert first == f"{key}: {'accepted' if good else 'rejected (dynamic_range)'}"
        found = "2, at least 1.3" if good else "1.05, at least 1.3: failed"
        assert rest[:3] == [
            "  valid_fraction 1, at least 0.5",
            "  far_fraction 0, at most 0.005",
            f"  dynamic_range {found}",
        ]
        files = {path.name: path.read_bytes() for path in folder.glob(f"{key}.*")}
        assert {*files} == {f"{key}.{end}" for end in ("rgb.jpg", "depth.png", "json", "png")}
        assert rest[3:] == [f"saved: {folder / name}" for name in files_in_order(key)]
        for name, data in files.items():
            if good and name != f"{key}.png":
                assert hashlib.sha256(data).hexdigest() == members[name]
    assert outcomes == {True, False}


def files_in_order(key: str) -> list[str]:
    return [f"{key}.{end}" for end in ("rgb.jpg", "depth.png", "json", "png")]


def test_a_run_whose_prompts_have_changed_cannot_be_reproduced(finished):
    (finished.folder / "prompts.txt").write_text("something else\n")
    with pytest.raises(MfsynthError, match=r"can't be reproduced: prompts\.digest"):
        find_candidate(str(finished.output), BAD, trust=True)


def test_a_run_is_opened_by_its_users_word_alone(finished, capsys):
    """Whoever wrote `run.json` chose what prompts and model are opened."""
    path = finished.output / "run.json"
    document = json.loads(path.read_text())
    document["config"]["prompts"] = {"file": "/nowhere/\x1b[2Jprompts.txt"}
    document["config"]["model"]["id"] = "/nowhere/model"
    path.write_text(json.dumps(document))
    with pytest.raises(SystemExit):
        main(["reproduce", str(finished.output), str(BAD)])
    said = capsys.readouterr().err
    assert "names the prompts '/nowhere/\\x1b[2Jprompts.txt' and the model '/nowhere/model'" in said
    assert said.count("\n") == 1
    assert said.endswith("open them with --trust\n")
    document["config"]["checks"]["prompt_agreement"] = {"model": "/nowhere/clip"}
    path.write_text(json.dumps(document))
    with pytest.raises(MfsynthError, match="'/nowhere/clip' for the check prompt_agreement; "):
        find_candidate(str(finished.output), BAD)
    with pytest.raises(MfsynthError, match="prompt file not found"):
        find_candidate(str(finished.output), BAD, trust=True)


def test_all_weights_that_a_run_names_are_told_before_they_are_opened(store):
    config = {
        "name": tiny_run.RUN,
        "target": {"pairs": 1},
        "prompts": {"library": "tabletop"},
        "model": {"id": "embedded", "few_steps": "/nowhere/adapters"},
        "output": "out",
    }
    open_run(store, replace(tiny_run.make_manifest(), config=config))
    with pytest.raises(MfsynthError, match="the few-step weights '/nowhere/adapters'; if the run"):
        find_candidate(store.location, 0)


def test_a_configuration_that_is_none_is_one_line(finished):
    path = finished.output / "run.json"
    document = json.loads(path.read_text())
    document["config"]["shard_size"] = "many"
    path.write_text(json.dumps(document))
    with pytest.raises(MfsynthError, match=r"run\.json: shard_size: must be an integer"):
        find_candidate(str(finished.output), BAD, trust=True)
