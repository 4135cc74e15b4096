"""Views: other data sets over the shards of a run, by `mfsynth refilter`."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_run
from click.testing import CliRunner
from disk_steps import before_each_step
from tiny_run import make_rejected_pair, make_sample

from mfsynth.cli.refilter import refilter as command
from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.reports.collect import collect_report
from mfsynth.shards import layout
from mfsynth.shards.commits import commit, read_commits
from mfsynth.shards.copy import copy_run
from mfsynth.shards.perceptual_hash import perceptual_hash
from mfsynth.shards.records import StoredObject
from mfsynth.shards.refilter import parse_limit, refilter
from mfsynth.shards.run_manifest import ScoreInfo, open_run
from mfsynth.shards.segments import listed_segments
from mfsynth.shards.status import run_status
from mfsynth.shards.verify import verify_run
from mfsynth.shards.views import Bound, Rules, View, pack, read_view
from mfsynth.shards.writer import encode_sample
from mfsynth.storage.digests import sha256_of_file
from mfsynth.storage.store import ObjectStore

AT_LEAST_3 = Rules({"registration": Bound(3.0, is_minimum=True)})
# Below what rejects have.
AT_LEAST_0 = Rules({"registration": Bound(0.1, is_minimum=True)})
EVERYTHING = Rules()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run of three shards that keeps the pixels of rejects."""
    folder = tmp_path_factory.mktemp("made")
    tiny_run.make_run(str(folder / "keeping"), 3, tiny_run.make_manifest(keeps_rejects=True))
    return folder


@pytest.fixture
def keeping(made, tmp_path) -> ObjectStore:
    """A copy of it."""
    shutil.copytree(made / "keeping", tmp_path / "run")
    return ObjectStore.open(tmp_path / "run")


def candidates(store, view=None) -> list[int]:
    return RGBDDataset(store.url, view=view).index["candidate"].to_pylist()


def asked(store, *arguments):
    return CliRunner().invoke(command, [store.url, *arguments])


# --- What is in a view ----------------------------------------------------------------------


def test_pairs_beyond_a_limit_are_left_out_and_the_shards_are_as_before(run_store):
    before = {key: run_store.read_bytes(key) for key in run_store.list()}
    done = refilter(run_store, "strict", AT_LEAST_3)
    # Scores are 2 and the candidate's number; of candidate 1 a check abstained.
    assert candidates(run_store, "strict") == [1, 2, 3, 6, 7, 8, 9]
    assert (done.view.pairs, done.view.returned, done.accepted) == (7, 0, 8)
    assert done.view.left_out == {"registration": 1}
    assert candidates(run_store) == [0, 1, 2, 3, 6, 7, 8, 9]
    after = {key: run_store.read_bytes(key) for key in run_store.list()}
    assert after.pop(layout.view_key("strict"))
    assert after == before


def test_a_pair_whose_check_abstained_passes(run_store):
    refilter(run_store, "valid", Rules({"valid_fraction": Bound(0.999, is_minimum=True)}))
    assert candidates(run_store, "valid") == [1]


def test_several_limits_count_together_and_one_pair_may_be_left_out_by_two(run_store):
    rules = Rules(
        {"registration": Bound(3.0, is_minimum=True), "valid_fraction": Bound(1.0, True)},
    )
    assert refilter(run_store, "two", rules).view.left_out == {
        "registration": 1,
        "valid_fraction": 7,
    }
    assert candidates(run_store, "two") == [1]


def test_rejected_pairs_come_back_with_their_pixels_in_the_order_of_candidates(keeping):
    done = refilter(keeping, "loose", AT_LEAST_0)
    assert (done.view.pairs, done.view.returned) == (16, 8)
    dataset = RGBDDataset(keeping.url, view="loose")
    found = dataset.index["candidate"].to_pylist()
    assert found == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, *range(12, 18)]
    assert dataset.index["returned"].to_pylist() == [n in (4, 10) or n >= 12 for n in found]
    for sample in dataset:
        np.testing.assert_allclose(
            sample.depth, make_sample(sample.candidate).depth, rtol=1e-3, atol=1e-3
        )
    assert dataset[4].scores["registration"] == 0.3
    assert np.isnan(dataset[4].scores["valid_fraction"])


def test_a_reject_comes_back_only_by_a_limit_on_each_score_that_it_failed(tmp_path):
    store = ObjectStore.open(tmp_path / "run")
    open_run(store, tiny_run.make_manifest(keeps_rejects=True))
    # One of another check, one of both, one that this check gave no score.
    failed = [("valid_fraction",), ("registration", "valid_fraction"), ("registration",)]
    scores = [{"valid_fraction": 0.4}, {"registration": 0.3, "valid_fraction": 0.4}, {}]
    rejects = [
        replace(
            pair, reject=replace(pair.reject, reasons=reasons, scores=given), pair=encoded(n, given)
        )
        for n, (reasons, given) in enumerate(zip(failed, scores, strict=True))
        for pair in [make_rejected_pair(n)]
    ]
    records = [*rejects, *(make_sample(n) for n in range(3, 6))]
    commit(store, tiny_run.upload_shard(store, 0, records))
    assert verify_run(store).problems == ()
    valid = Bound(0.3, is_minimum=True)
    for name, limits, back in (
        ("one", {"registration": AT_LEAST_0.limits["registration"]}, []),
        ("other", {"valid_fraction": valid}, [0]),
        ("both", {**AT_LEAST_0.limits, "valid_fraction": valid}, [0, 1]),
        ("higher", {**AT_LEAST_0.limits, "valid_fraction": Bound(0.5, is_minimum=True)}, []),
    ):
        refilter(store, name, Rules(limits))
        assert candidates(store, name) == [*back, 3, 4, 5]


def encoded(candidate, scores):
    sample = make_sample(candidate)
    reference = tiny_run.make_reject(candidate).ref
    return encode_sample(replace(sample, ref=reference, scores=scores), tiny_run.DECLARED)


def test_looser_limits_of_a_run_that_kept_no_pixels_bring_nothing_back_and_say_so(tmp_path):
    manifest = replace(
        tiny_run.make_manifest(),
        scores={"registration": ScoreInfo("registration", limit=1.5)},
    )
    store = tiny_run.make_run(str(tmp_path / "run"), 2, manifest)
    said = asked(store, "--name", "loose", "--limit", "registration>=0.1")
    assert said.exit_code == 0
    assert "the run kept no pixels of what it rejected (keep_rejects: all)" in said.output
    assert candidates(store, "loose") == candidates(store)


def near(candidate, *, like, prompt=0):
    """A sample with nearly the image of others, and the prompt of others."""
    sample, rgb = make_sample(candidate), scattered(like)
    rgb[5, candidate] ^= 7
    return replace(sample, rgb=rgb, ref=replace(sample.ref, prompt_id=f"{prompt:016x}"))


def scattered(seed):
    """An image that is like no other's."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (32, 24), interpolation=cv2.INTER_CUBIC)


# Image and prompt of each candidate of two shards: what is near what.
IMAGES = [0, 1, 0, 2, 3, 1, 4, 0, 5, 3, 6, 7]
PROMPTS = [0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 2, 1]


@pytest.fixture(params=["in order", "the last one first"])
def alike(request, tmp_path) -> ObjectStore:
    """A run of two shards that has images twice; its shards arrive in either order."""
    store = ObjectStore.open(tmp_path / "run")
    open_run(store, tiny_run.make_manifest())
    for shard in (0, 1) if request.param == "in order" else (1, 0):
        first = shard * tiny_run.SHARD_SIZE
        records = [
            near(n, like=IMAGES[n], prompt=PROMPTS[n])
            for n in range(first, first + tiny_run.SHARD_SIZE)
        ]
        commit(store, tiny_run.upload_shard(store, shard, records))
    return store


def test_of_near_duplicates_the_lowest_candidate_stays_whenever_its_shard_arrived(alike):
    first = [n for n in range(12) if IMAGES.index(IMAGES[n]) == n]
    done = refilter(alike, "unique", Rules(duplicates_within=6))
    assert candidates(alike, "unique") == first
    assert done.view.left_out == {"duplicates": 12 - len(first)}
    hashes = {perceptual_hash(scattered(seed)) for seed in {*IMAGES}}
    assert len(hashes) == 8


def test_a_cap_counts_what_the_other_rules_left(alike):
    unique = [n for n in range(12) if IMAGES.index(IMAGES[n]) == n]
    taken: Counter[int] = Counter()
    expected = []
    for n in unique:
        taken[PROMPTS[n]] += 1
        expected += [n] * (taken[PROMPTS[n]] <= 2)
    done = refilter(alike, "few", Rules(duplicates_within=6, max_per_prompt=2))
    assert candidates(alike, "few") == expected
    assert done.view.left_out["max_per_prompt"] == len(unique) - len(expected) > 0


# --- The file -------------------------------------------------------------------------------


def test_a_view_is_created_once_and_made_anew_only_when_asked(run_store):
    refilter(run_store, "strict", AT_LEAST_3)
    before = run_store.read_bytes(layout.view_key("strict"))
    refilter(run_store, "strict", AT_LEAST_3)
    with pytest.raises(MfsynthError, match="has a view 'strict', which is not changed"):
        refilter(run_store, "strict", EVERYTHING)
    assert run_store.read_bytes(layout.view_key("strict")) == before
    refilter(run_store, "strict", EVERYTHING, replace=True)
    assert candidates(run_store, "strict") == candidates(run_store)


@pytest.mark.parametrize("replaces", [False, True])
def test_who_reads_at_any_step_of_the_writer_sees_one_view_or_the_other(run_store, replaces):
    if replaces:
        refilter(run_store, "strict", AT_LEAST_3)
    seen = []

    def look(*_step):
        there = run_store.exists(layout.view_key("strict"))
        seen.append(read_view(run_store, "strict").pairs if there else None)

    with before_each_step(look):
        refilter(run_store, "strict", EVERYTHING, replace=replaces)
    look()
    assert len(seen) > 3
    assert {*seen} == {7 if replaces else None, 8}


def test_its_file_is_a_function_of_rows_and_rules_and_says_what_stands_in_the_format(run_store):
    rules = Rules(AT_LEAST_3.limits, 6, 2)
    view = refilter(run_store, "strict", rules).view
    data = run_store.read_bytes(view.key)
    assert View.from_bytes(data) == view == read_view(run_store, "strict")
    values = json.loads(data)
    assert values["limits"] == {"registration": {"min": 3.0}}
    assert (values["duplicates_within"], values["max_per_prompt"]) == (6, 2)
    bits = view.selected(18)
    assert np.flatnonzero(bits).tolist() == candidates(run_store, "strict")
    body, _, rest = data.rpartition(b',\n "sha256": ')
    assert rest == json.dumps(hashlib.sha256(body).hexdigest()).encode() + b"\n}\n"


def test_a_view_of_a_million_candidates_is_small_and_holds_any_choice_of_them():
    rng = np.random.default_rng(0)
    chosen = rng.random(1_000_000) < 0.6
    view = View(
        "all", "0" * 64, 15_625, "0" * 64, EVERYTHING, {}, int(chosen.sum()), 0, pack(chosen)
    )
    data = view.to_bytes()
    assert len(data) < 200_000
    assert np.array_equal(View.from_bytes(data).selected(len(chosen)), chosen)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"pairs": 3}, "bit for each candidate"),
        ({"shards": 9}, "which is not committed"),
        ({"shards": 2**50}, "which is not committed"),
        ({"shards": 2}, "other shards than are committed"),
        ({"objects_sha256": "0" * 64}, "other shards than are committed"),
        ({"run_sha256": "0" * 64}, "of another run"),
        ({"name": "other"}, "of another run, or another view"),
        ({"bits": b""}, "bit for each candidate"),
        ({"returned": 5}, "have no pixels"),
    ],
)
def test_a_file_that_vouches_for_what_is_not_so_is_one_line(run_store, change, match):
    view = refilter(run_store, "strict", AT_LEAST_3).view
    run_store.put_bytes(view.key, replace(view, **change).to_bytes())
    with pytest.raises(MfsynthError, match=match) as info:
        RGBDDataset(run_store.url, view="strict")
    assert "\n" not in str(info.value)
    assert any("_views/strict.json: " in line for line in verify_run(run_store).problems)


def vouched(values) -> bytes:
    """A file whose digest is that of its bytes, whatever they say."""
    body = json.dumps(values).encode().removesuffix(b"}")
    digest = json.dumps(hashlib.sha256(body).hexdigest()).encode()
    return body + b',\n "sha256": ' + digest + b"\n}\n"


HOSTILE = [
    {"duplicates_within": 64},
    {"duplicates_within": -1},
    {"max_per_prompt": 1.5},
    {"max_per_prompt": 2**60},
    {"limits": {"registration": {"min": 10**400}}},
    {"limits": {"registration": {"min": True}}},
    {"limits": {"registration": {"min": 1, "max": 2}}},
    {"limits": {"\u001b[2J": {"min": 1}}},
    {"limits": []},
    {"left_out": {"registration": -1}},
    {"left_out": [1]},
    {"candidates": "no base64!"},
    {"candidates": base64.b64encode(zlib.compress(bytes(10**7), 9)).decode()},
    {"candidates": None},
    {"shards": -1},
    {"shards": "3"},
    {"pairs": 2**70},
    {"objects_sha256": "0"},
    {"run_sha256": None},
    {"view": "../run"},
    {"view": None},
]


@pytest.mark.parametrize("change", [*HOSTILE, None, [], 3], ids=lambda change: str(change)[:40])
def test_whatever_a_strangers_view_says_is_one_line(run_store, change):
    view = refilter(run_store, "strict", AT_LEAST_3).view
    values = json.loads(run_store.read_bytes(view.key))
    del values["sha256"]
    said = values | change if isinstance(change, dict) else {"all": change}
    run_store.put_bytes(view.key, vouched(said))
    with contextlib.suppress(MfsynthError):
        RGBDDataset(run_store.url, view="strict")
    found = [line for line in verify_run(run_store).problems if "_views/strict.json: " in line]
    assert len(found) == 1
    assert "\n" not in found[0]
    assert len(found[0]) < 400
    assert run_status(run_store).shards == 3


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array(["x"] * 4), "is no column of numbers"),
        (pa.array([1, None, 3, 4]), "is missing in rows"),
    ],
)
def test_hashes_that_are_none_are_one_line(run_store, column, said):
    receipt = read_commits(run_store)[0]
    path = run_store.local_root / receipt.objects["index"].key
    table = pq.read_table(path, partitioning=None)
    place = table.column_names.index("phash")
    pq.write_table(table.set_column(place, pa.field("phash", column.type), column), path)
    stored = StoredObject(receipt.objects["index"].key, path.stat().st_size, sha256_of_file(path))
    changed = replace(receipt, objects={**receipt.objects, "index": stored})
    (run_store.local_root / layout.commit_key(0)).write_text(changed.to_json())
    (run_store.local_root / layout.commit_key(1)).unlink()
    (run_store.local_root / layout.commit_key(2)).unlink()
    with pytest.raises(MfsynthError, match=said):
        refilter(run_store, "unique", Rules(duplicates_within=6))


def test_a_view_that_is_not_there_is_one_line_that_names_those_that_are(run_store):
    with pytest.raises(MfsynthError, match="no view 'strict'; `mfsynth refilter` makes one"):
        RGBDDataset(run_store.url, view="strict")
    refilter(run_store, "loose", EVERYTHING)
    with pytest.raises(MfsynthError, match="no view 'strict'; it has loose"):
        RGBDDataset(run_store.url, view="strict")
    with pytest.raises(MfsynthError, match="is no name of a view"):
        RGBDDataset(run_store.url, view="../../run")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--limit", "registration>=nan"], "a score, >= or <=, and a number"),
        (["--limit", "registration>=inf"], "a score, >= or <=, and a number"),
        (["--limit", "registration"], "in quotes, such as"),
        (["--limit", "registrations>=2"], "has no score 'registrations'; it has registration, v"),
        (["--limit", "registration>=2", "--limit", "registration>=3"], "one score has two"),
    ],
)
def test_a_limit_that_means_nothing_is_one_line_and_makes_no_view(run_store, arguments, said):
    found = asked(run_store, "--name", "strict", *arguments)
    assert isinstance(found.exception, MfsynthError)
    assert said in str(found.exception)
    assert "\n" not in str(found.exception)
    assert not run_store.list(layout.VIEWS_FOLDER)


def test_a_limit_on_the_wrong_side_is_refused(tmp_path):
    manifest = replace(tiny_run.make_manifest(), scores={"registration": ScoreInfo("r")})
    store = tiny_run.make_run(str(tmp_path / "run"), 1, manifest)
    with pytest.raises(MfsynthError, match=r"higher values are the better ones; .*registration>=2"):
        refilter(store, "strict", Rules(dict([parse_limit("registration<=2")])))


@pytest.mark.parametrize("name", ["", "Strict", "a/b", "..", "a.json", "x" * 81])
def test_a_name_that_is_none_is_refused(run_store, name):
    with pytest.raises(MfsynthError, match=r"--name .*such as strict"):
        refilter(run_store, name, EVERYTHING)


# --- Runs that grow, are made anew, copied, collected ---------------------------------------


def test_a_view_of_a_run_that_grew_is_of_the_earlier_state_and_says_so(tmp_path):
    store = tiny_run.make_run(str(tmp_path / "run"), 1)
    refilter(store, "early", EVERYTHING)
    before = candidates(store, "early")
    tiny_run.make_missing_shards(store.url, 2)
    tiny_run.compact_all(store, (2,))
    assert listed_segments(store)
    assert candidates(store, "early") == before == [0, 1, 2, 3]
    status = run_status(store)
    assert status.views["early"].shards_since == 1
    assert any("view         early: 4 pairs of 1 shards" in line for line in status.lines())
    assert verify_run(store).problems == ()
    assert "1 were committed since" in collect_report(store.url, view="early").warning
    refilter(store, "early", EVERYTHING, replace=True)
    assert candidates(store, "early") == candidates(store)


def test_a_view_is_of_the_shards_before_the_first_that_is_missing(tmp_path):
    store = ObjectStore.open(tmp_path / "run")
    open_run(store, tiny_run.make_manifest())
    for shard in (0, 2):
        commit(store, tiny_run.upload_shard(store, shard))
    said = asked(store, "--name", "first")
    assert "1 shards are committed behind one that is not" in said.output
    assert candidates(store, "first") == [0, 1, 2, 3]


def test_a_run_without_its_first_shard_has_no_view(tmp_path):
    store = ObjectStore.open(tmp_path / "run")
    open_run(store, tiny_run.make_manifest())
    with pytest.raises(MfsynthError, match="shard 0 is not committed yet"):
        refilter(store, "first", EVERYTHING)


def test_a_shard_that_is_made_anew_with_the_same_bytes_leaves_a_view_as_it_is(run_store):
    refilter(run_store, "strict", AT_LEAST_3)
    before = candidates(run_store, "strict")
    run_store.delete(layout.commit_key(1))
    with pytest.raises(MfsynthError, match="was made of shard 1, which is not committed"):
        RGBDDataset(run_store.url, view="strict")
    assert any("which is not committed" in line for line in verify_run(run_store).problems)
    commit(run_store, tiny_run.upload_shard(run_store, 1))
    assert candidates(run_store, "strict") == before
    tiny_run.collect_all(run_store)
    assert verify_run(run_store).problems == ()
    assert candidates(run_store, "strict") == before


def test_a_view_over_shards_that_changed_is_refused_and_told(run_store, tmp_path):
    refilter(run_store, "strict", AT_LEAST_3)
    run_store.delete(layout.commit_key(1))
    records = [make_sample(6, width=40), *tiny_run.make_records(1)[1:]]
    commit(run_store, tiny_run.upload_shard(run_store, 1, records))
    with pytest.raises(MfsynthError, match=r"other shards than are committed now; .*--replace"):
        RGBDDataset(run_store.url, view="strict")
    assert "other shards" in run_status(run_store).views["strict"].problem
    assert any("other shards" in line for line in verify_run(run_store).problems)
    copied = copy_run(run_store, ObjectStore.open(tmp_path / "copy"))
    assert ["other shards" in line for line in copied.views_left_out] == [True]
    refilter(run_store, "strict", AT_LEAST_3, replace=True)
    assert verify_run(run_store).problems == ()


@pytest.mark.parametrize("there", [None, "an older view", "more shards"])
def test_a_copy_has_the_views_byte_for_byte(keeping, tmp_path, there):
    copy = ObjectStore.open(tmp_path / "copy")
    if there == "an older view":
        refilter(keeping, "loose", EVERYTHING)
        copy_run(keeping, copy)
    refilter(keeping, "loose", AT_LEAST_0, replace=True)
    if there == "more shards":
        copy_run(keeping, copy)
        commit(copy, tiny_run.upload_shard(copy, 3, tiny_run.make_records(3)))
    assert copy_run(keeping, copy).views_left_out == ()
    key = layout.view_key("loose")
    assert copy.read_bytes(key) == keeping.read_bytes(key)
    assert candidates(copy, "loose") == candidates(keeping, "loose")
    assert verify_run(copy).problems == ()


@pytest.mark.parametrize("value", [2.0, 3.00000123, 0.1 + 0.2])
def test_the_text_of_a_limit_is_that_limit(value):
    score, bound = parse_limit(Bound(value, is_minimum=True).text("registration"))
    assert (score, bound.value) == ("registration", value)


def test_gc_leaves_views_and_removes_what_a_killed_writer_left_of_one(keeping):
    refilter(keeping, "loose", AT_LEAST_0)
    before = {*keeping.list()}
    part = f"{layout.VIEWS_FOLDER}/.strict.json.00.part"
    keeping.put_bytes(part, b"half")
    assert verify_run(keeping).problems == ()
    assert [entry.key for entry in tiny_run.collect_all(keeping)] == [part]
    assert {*keeping.list()} == before
    assert len(RGBDDataset(keeping.url, view="loose")) == 16


def test_a_stranger_beside_the_views_is_told(run_store):
    run_store.put_bytes(f"{layout.VIEWS_FOLDER}/Notes.txt", b"mine")
    assert verify_run(run_store).problems == ("_views/Notes.txt: is not the name of a view",)


# --- Who takes a view -----------------------------------------------------------------------


def test_a_run_of_an_earlier_draft_takes_limits_and_says_that_it_has_no_hashes(tmp_path):
    data = Path(__file__).parents[1] / "data"
    shutil.copytree(data / "format1", tmp_path / "run")
    store = ObjectStore.open(tmp_path / "run")
    with pytest.raises(MfsynthError, match="no perceptual hashes, which runs of earlier formats"):
        refilter(store, "unique", Rules(duplicates_within=6))
    refilter(store, "few", Rules({"dynamic_range": Bound(1.0, is_minimum=True)}, None, 1))
    assert verify_run(store).problems == ()
    prompts = RGBDDataset(store.url, view="few").index["prompt"].to_pylist()
    assert sorted(prompts) == sorted({*RGBDDataset(store.url).index["prompt"].to_pylist()})


def test_rows_of_a_view_are_those_of_the_index(run_store):
    refilter(run_store, "strict", AT_LEAST_3)
    whole = RGBDDataset(run_store.url).index
    rows = RGBDDataset(run_store.url, view="strict").index
    wanted = whole.filter(
        pa.array([n in candidates(run_store, "strict") for n in whole["candidate"].to_pylist()])
    )
    assert rows.drop_columns(["returned"]).equals(wanted)


def test_a_view_of_nothing_is_made_with_a_warning(run_store):
    shown = asked(run_store, "--name", "none", "--limit", "registration>=1e9")
    assert shown.exit_code == 0
    assert shown.stderr == "warning: no pair is in view none; give other limits, and --replace\n"
    assert "view none: 0 pairs of 3 shards" in shown.stdout
