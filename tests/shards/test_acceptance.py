"""What people are told of a run beside its counts: acceptance by slot, loosened limits, camera."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest
import tiny_run
from click.testing import CliRunner

from mfsynth.cli.status import status
from mfsynth.runs.settings import load_run_config, run_scores
from mfsynth.shards.acceptance import SlotCounts, ValueAcceptance, read_slot_acceptance
from mfsynth.shards.commits import read_commits
from mfsynth.shards.finalize import run_documents
from mfsynth.shards.reading import read_index
from mfsynth.shards.run_manifest import ScoreInfo
from mfsynth.shards.status import RunStatus
from mfsynth.shards.totals import totals
from mfsynth.shards.words import (
    NO_GUARANTEE,
    camera_in_words,
    loosened_limits,
    standing_of,
)

# Of the tiny run: candidates 1 and 2 of each three are red, 2 is blue, too; 4 of 6 pass in shards 0
# and 1, none in shard 2.
COLOURS = [ValueAcceptance("colour", "red", 4, 12), ValueAcceptance("colour", "blue", 2, 6)]


def test_acceptance_is_counted_by_the_values_that_prompts_took(run_store):
    found = read_slot_acceptance(run_store, read_commits(run_store).values())
    assert found == {"colour": COLOURS}  # all views are from above: no choice, no news


def table(*rows: list[str]) -> pa.Table:
    values = pa.array(rows, pa.list_(pa.string()))
    return pa.table(
        {"slot_surface": pa.chunked_array([values, values[:0]]), "prompt": [""] * len(rows)}
    )


def test_a_candidate_counts_once_for_a_value_and_the_worst_value_is_first():
    counts = SlotCounts()
    counts.add(table(["oak", "oak"], ["oak", "steel"], []), accepted=True)
    counts.add(table(["steel"], ["steel", "steel"], ["glass"]), accepted=False)
    (values,) = counts.by_slot().values()
    assert [(v.value, v.accepted, v.made) for v in values] == [
        ("glass", 0, 1),
        ("steel", 1, 3),
        ("oak", 2, 2),
    ]
    assert [v.share for v in values] == [0, pytest.approx(1 / 3), 1]


def test_status_shows_slots_where_they_are_asked_for(run_store):
    plain, asked, as_json = (
        CliRunner().invoke(status, [run_store.url, *options]).output
        for options in ([], ["--slots"], ["--slots", "--json"])
    )
    assert "accepted     4 of 12 (33%): colour 'red'" in asked
    assert "colour" not in plain
    assert json.loads(as_json)["slots"]["colour"][0] == {
        "slot": "colour",
        "value": "red",
        "accepted": 4,
        "made": 12,
    }


@pytest.mark.parametrize(
    ("direction", "limit", "default", "words"),
    [
        ("higher", 1.0, 1.5, ["edges at least 1 px, by default at least 1.5 px"]),
        ("lower", 0.9, 0.4, ["edges at most 0.9 px, by default at most 0.4 px"]),
        ("higher", 2.0, 1.5, []),
        ("lower", 0.2, 0.4, []),
        ("lower", 0.4, 0.4, []),
        ("lower", 0.9, None, []),
        ("lower", None, None, []),
    ],
)
def test_a_limit_that_lets_more_pass_than_the_default_is_told(direction, limit, default, words):
    score = ScoreInfo("edges", direction, "px", limit=limit, default_limit=default)
    assert loosened_limits({"edges": score}) == words


def test_a_run_knows_the_defaults_of_its_checks():
    scores = run_scores(load_run_config("local", ["checks.flying_pixels={max: 0.9}"]))
    assert all(score.default_limit is not None for score in scores.values())
    assert loosened_limits(scores) == ["flying pixels at most 0.9, by default at most 0.4"]


def test_status_and_card_tell_the_camera_and_what_was_loosened(run_store):
    scores = {"registration": ScoreInfo("registration", limit=0.5, default_limit=1.5)}
    run = replace(tiny_run.make_manifest(camera={"preset": "d435"}), scores=scores)
    commits = read_commits(run_store)
    lines = RunStatus.of(run, run_store.url, totals(commits.values()), ()).lines()
    assert "camera       d435, assumed" in lines
    assert "loosened     registration at least 0.5, by default at least 1.5" in lines
    card = run_documents(run, commits, read_index(run_store, commits.values()), ())[
        "README.md"
    ].decode()
    assert "- camera: assumed, d435" in card
    assert "- registration at least 0.5, by default at least 1.5" in card


def test_the_card_tells_which_limits_a_calibration_does_not_hold_for(run_store):
    scores = {
        name: ScoreInfo(name, limit=2.0, default_limit=1.5)
        for name in ("registration", "valid_fraction")
    }
    limits = {"registration": 1.5, "valid_fraction": 2.0, "of_no_run": 1.0}
    checks = {"calibration": {"limits": limits}}
    run = replace(tiny_run.make_manifest(checks=checks), scores=scores)
    commits = read_commits(run_store)
    found = run_documents(run, commits, read_index(run_store, commits.values()), ())
    card = found["README.md"].decode()
    line = "registration at least 2, calibrated at least 1.5"
    assert f"Limits set by hand; {NO_GUARANTEE}:\n\n- {line}\n\n" in card


@pytest.mark.parametrize(
    ("limit", "default", "calibrated", "words"),
    [
        (None, 1.5, None, ""),
        (2.0, None, None, ""),
        (1.5, 1.5, None, "the default"),
        (1.0, 1.5, None, "loosened: by default at least 1.5"),
        (2.0, 1.5, None, "stricter than the default: by default at least 1.5"),
        (1.5, 1.5, 1.5, "calibrated"),
        (2.0, 1.5, 1.5, "set by hand: calibrated is at least 1.5"),
    ],
)
def test_where_a_limit_comes_from_is_told_in_words(limit, default, calibrated, words):
    limits = {} if calibrated is None else {"edges": calibrated}
    settings = {"checks": {"calibration": {"limits": limits}}}
    score = ScoreInfo("edges", limit=limit, default_limit=default)
    assert standing_of("edges", score, settings) == words
    assert standing_of("edges", score, {"checks": {"calibration": 3}}) != "calibrated"


@pytest.mark.parametrize(
    ("camera", "words"),
    [({"preset": "d435"}, "d435"), ({"fov": 69.5}, "69.5° wide"), ({"fov": "x"}, ""), (3, "")],
)
def test_the_camera_of_whatever_run_is_told_in_words_or_not_at_all(camera, words):
    assert camera_in_words({"camera": camera}) == words
    assert camera_in_words({}) == ""
