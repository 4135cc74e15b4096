from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pyarrow as pa
import pytest
import tiny_run
from click.testing import CliRunner
from conftest_run import CHECKS, SCORE_INFOS, SCORES, SHARD_SIZE, write_run

from mfsynth.cli.report import report as command
from mfsynth.datasets import RGBDDataset
from mfsynth.errors import MfsynthError
from mfsynth.reports import collect, render_page
from mfsynth.reports.collect import collect_report, page_path, sample_pairs
from mfsynth.reports.content import SlotTable
from mfsynth.reports.facts import facts_of
from mfsynth.reports.rejects import scores_in
from mfsynth.shards.acceptance import ValueAcceptance
from mfsynth.shards.commits import read_commits
from mfsynth.shards.refilter import refilter
from mfsynth.shards.run_manifest import ScoreInfo
from mfsynth.shards.totals import totals
from mfsynth.shards.view_documents import finalize_view
from mfsynth.shards.views import Bound, Rules
from mfsynth.storage.store import ObjectStore


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def test_counts_and_facts_come_from_the_commits(run):
    report = collect_report(run)
    assert (report.candidates, report.accepted, report.rejected, report.quarantined) == (
        2 * SHARD_SIZE,
        10,
        4,
        2,
    )
    assert report.shards == 2
    assert report.seconds == 20
    facts = dict(report.facts)
    assert facts["licence"] == "Apache-2.0"
    assert facts["image size"] == "48 × 48"
    assert facts["depth"] == "scale invariant z, of the finished image"
    assert facts["sampler"] == "steps 30, second-pass steps 0, guidance 4.0, log2 α 5.0"
    assert facts["prompts"] == "tabletop"
    assert facts["started"] == "2026-01-02 03:04 UTC"


def test_what_the_receipts_say_of_prompts_device_and_retries_is_shown(run, monkeypatch):
    def read(store):
        known = {"device": "cuda", "device_name": "NVIDIA H100", "retries": {"worker_died": 1}}
        prompts = {"prompts_unknown": 8, "prompts_cut": 1}
        return {n: replace(r, **known, **prompts) for n, r in read_commits(store).items()}

    assert collect_report(run).warning == ""
    monkeypatch.setattr(collect, "read_counted_commits", read)
    found = collect_report(run)
    facts = dict(found.facts)
    assert facts["device"] == "NVIDIA H100"
    assert facts["done again"] == "worker died 2"
    page = render_page(found)
    assert (
        '<p class="warning">16 of 16 prompts have words that the model doesn&#39;t know; 2 are '
        "longer than what it reads.</p>" in page
    )


def test_a_report_shows_the_camera_of_a_pair_and_acceptance_by_slot(tmp_path):
    report = collect_report(tiny_run.make_run(str(tmp_path / "run"), shards=3).url)
    assert report.slots == (
        SlotTable(
            "colour",
            (ValueAcceptance("colour", "red", 4, 12), ValueAcceptance("colour", "blue", 2, 6)),
            of=2,
        ),
    )
    cameras = [pair.camera for pair in report.pairs]
    assert cameras[:2] == ["", "d435, assumed: 69.5° × 55.0°"]
    page = render_page(report)
    assert "d435, assumed: 69.5° × 55.0°" in page
    assert 'data-value="red">red</th><td>4 of 12</td><td>33 %</td>' in page


@pytest.mark.parametrize("limit", [0.0, 3.0])
def test_acceptance_by_slot_of_a_view_counts_each_candidate_once(tmp_path, limit):
    """Pairs that come back are accepted, and those that the view leaves out were made, too."""
    manifest = tiny_run.make_manifest(keeps_rejects=True)
    store = tiny_run.make_run(str(tmp_path / "run"), shards=3, manifest=manifest)
    rules = Rules({"registration": Bound(limit, is_minimum=True)})
    view = refilter(store, "other", rules).view
    assert view.returned if limit == 0.0 else sum(view.left_out.values())
    [run], [other] = (collect_report(store.url, view=name).slots for name in (None, "other"))

    def made(table):
        return {one.value: one.made for one in table.values}

    assert made(other) == made(run)
    colours = RGBDDataset(store.url, view="other").index["slot_colour"].to_pylist()
    taken = Counter(colour for each in colours for colour in {*(each or ())})
    assert {one.value: one.accepted for one in other.values} == taken


def test_a_report_shows_what_was_loosened(tmp_path):
    scores = {**SCORE_INFOS}
    scores["registration"] = replace(scores["registration"], default_limit=2.5)
    report = collect_report(write_run(tmp_path, shards=1, score_infos=scores))
    assert dict(report.facts)["loosened"] == "registration at least 1.5, by default at least 2.5"
    standing = "at least 1.5, loosened: by default at least 2.5"
    assert f'<span class="standing loose">{standing}</span>' in render_page(report)


def test_a_report_shows_which_limits_are_calibrated_and_which_were_set_by_hand(tmp_path):
    checks = {**CHECKS, "calibration": {"limits": {"registration": 2.0, "self_agreement": 0.1}}}
    report = collect_report(write_run(tmp_path, shards=1, checks=checks))
    by_hand = "registration at least 1.5, calibrated at least 2"
    assert dict(report.facts)["set by hand"].startswith(f"{by_hand}: what the calibration guar")
    standing = {plot.name: plot.standing for plot in report.histograms}
    assert standing["self_agreement"] == "calibrated"
    assert standing["registration"] == "set by hand: calibrated is at least 2"


def test_a_page_of_a_hundred_pairs_is_below_a_megabyte_and_a_half(tmp_path):
    prompt = "a long prompt, with all that it asks for " * 9
    run = write_run(tmp_path, shards=20, side=64, prompt=prompt)
    result = CliRunner().invoke(command, [run, "--pairs", "100"])
    assert result.exception is None, result.output
    page = (tmp_path / "report.html").read_bytes()
    assert len(page) < 1_500_000
    assert page.count(b'<article class="card"') > 24 + 60


def test_scores_of_a_run_are_held_in_columns():
    scores = pa.array([0.5, None, float("inf")], pa.float64())
    (values,) = scores_in(pa.table({"check_a": scores, "prompt": ["x"] * 3})).values()
    np.testing.assert_array_equal(values, np.array([0.5, np.nan, np.inf]))


def test_rejects_say_why_with_score_and_threshold(run):
    rejects = collect_report(run).rejects
    assert [reject.reasons for reject in rejects] == [("registration 0.82 < 1.5",)] * 4
    assert [bool(reject.thumbnail_uri) for reject in rejects] == [True, False] * 2
    assert collect_report(run).quarantine[0].reason == "worker died (signal 9)"


def test_histograms_are_over_all_pairs_with_their_thresholds(run):
    plots = {plot.score.label: plot for plot in collect_report(run, pairs=1, rejects=1).histograms}
    assert set(plots) == {"valid depth", "registration", "self agreement"}
    assert plots["registration"].score.limit == 1.5
    assert plots["registration"].failing == 4
    assert plots["self agreement"].abstained == 4


def test_a_run_of_an_earlier_version_is_shown_with_the_limits_of_its_checks(tmp_path, run):
    earlier = collect_report(write_run(tmp_path, score_infos={}))
    assert earlier.rejects[0].reasons == ("registration 0.82 < 1.5",)
    found, wanted = (
        [(plot.score.label, plot.score.limit, plot.failing) for plot in report.histograms]
        for report in (earlier, collect_report(run))
    )
    assert found == wanted


def test_a_run_that_says_nothing_of_its_scores_is_shown_with_their_names(tmp_path):
    checks = {"of_an_older_time": {}}
    report = collect_report(write_run(tmp_path, shards=1, score_infos={}, checks=checks))
    assert [plot.score for plot in report.histograms] == [*map(ScoreInfo, SCORES)]
    assert [cell.label for cell in report.pairs[0].scores] == [*SCORES]
    assert report.rejects[0].reasons == ("registration",)
    assert "no limit; the check abstained on 2 of " in render_page(report)


def test_a_large_run_is_sampled_and_the_sample_is_repeatable(run):
    report = collect_report(run, pairs=3, rejects=1)
    assert len(report.pairs) == 3
    assert len(report.rejects) == len(report.quarantine) == 1
    assert report == collect_report(run, pairs=3, rejects=1)
    assert report.pairs != collect_report(run, pairs=3, rejects=1, seed=1).pairs
    chosen = [sample.candidate for sample in sample_pairs(RGBDDataset(run), 3)]
    assert chosen == sorted(set(chosen))


def test_the_page_of_a_run_is_well_formed_even_with_markup_in_its_prompts(tmp_path):
    url = write_run(tmp_path, shards=1, prompt="<script>alert(1)</script> <b>&amp;")
    page = render_page(collect_report(url))
    ElementTree.fromstring(page.encode())
    assert "<script>alert" not in page


def test_large_images_are_shrunk_for_the_page(tmp_path):
    url = write_run(tmp_path, shards=1, side=480)
    assert len(render_page(collect_report(url))) < 1_000_000


def test_a_run_without_a_commit_gives_a_page(tmp_path):
    assert "no committed candidate" in render_page(collect_report(write_run(tmp_path, shards=0)))


def test_the_command_writes_page_and_picture(run, tmp_path):
    page, picture = tmp_path / "new" / "page.html", tmp_path / "picture.png"
    result = CliRunner().invoke(command, [run, "--out", str(page), "--picture", str(picture)])
    assert result.exit_code == 0, result.output
    assert str(page) in result.output
    ElementTree.fromstring(page.read_bytes())
    sheet = cv2.imdecode(np.frombuffer(picture.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape[1] > sheet.shape[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "picture.png"]


def test_the_page_lies_in_a_local_run_by_default(tmp_path):
    url = write_run(tmp_path / "run", shards=1)
    result = CliRunner().invoke(command, [url])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "report.html").exists()


def test_the_page_of_a_run_that_is_on_no_local_disk_lies_here_and_is_named_after_it(tmp_path):
    assert page_path("memory://bucket/run", "mugs-0123abcd") == Path("mugs-0123abcd.report.html")
    assert page_path(tmp_path.as_uri(), "mugs") == tmp_path / "report.html"


@pytest.mark.parametrize("name", ["/tmp/page", "../page", "a/b", "", "a\x1b[2J", "A", "x" * 99])
def test_a_name_that_is_no_name_of_a_run_is_no_path(name):
    with pytest.raises(MfsynthError, match="no name; give --out"):
        page_path("memory://bucket/run", name)


def test_a_folder_that_is_no_run_is_a_clear_error(tmp_path):
    with pytest.raises(MfsynthError, match="not a run"):
        collect_report(str(tmp_path))


@pytest.mark.parametrize("spoil", ["missing", "truncated"])
def test_damaged_rejects_are_a_clear_error(tmp_path, spoil):
    url = write_run(tmp_path, shards=1)
    (path,) = (tmp_path / "rejects").iterdir()
    path.unlink() if spoil == "missing" else path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(MfsynthError, match=r"rejects/real-[0-9a-f]{8}-000000.*verify"):
        collect_report(url)


@pytest.mark.parametrize(
    ("limits", "keeps", "wanted"),
    [
        # Two rejects have .3 of registration, which is what they failed in the run.
        ({"registration": 0.1}, False, {"no_pixels": 2}),
        ({"registration": 0.4}, True, {"registration": 2}),
        ({"valid_fraction": 0.0}, True, {"registration": 2}),
        ({"registration": 0.1}, True, {}),
        # They have one prompt.
        ({"registration": 0.1, "a prompt": 1}, True, {"max_per_prompt": 1}),
    ],
)
def test_why_pairs_are_not_in_a_view_is_its_own_limits_in_page_card_and_manifest(
    tmp_path, limits, keeps, wanted
):
    most = limits.pop("a prompt", None)
    manifest = tiny_run.make_manifest(keeps_rejects=keeps)
    store = tiny_run.make_run(str(tmp_path / "run"), 2, manifest)
    bounds = {score: Bound(value, is_minimum=True) for score, value in limits.items()}
    refilter(store, "other", Rules(bounds, max_per_prompt=most))
    finalize_view(store, "other")
    counts = json.loads(store.read_bytes("_views/other/manifest.json"))["counts"]
    assert counts["rejected_by_reason"] == wanted
    card = store.read_bytes("_views/other/README.md").decode()
    report = collect_report(store.url, view="other", rejects=10)
    assert counts["rejected"] == report.rejected == sum(wanted.values())
    words = {
        "no_pixels": "its pixels were not kept",
        "max_per_prompt": "one too many of its prompt",
    }
    named = {words.get(reason, reason): number for reason, number in wanted.items()}
    assert {reason.label: reason.count for reason in report.reason_counts} == named
    assert all(f"| {reason} | {number} |" in card for reason, number in wanted.items())
    assert Counter(each for card in report.rejects for each in card.failed) == named
    assert not any("abstained" in each for card in report.rejects for each in card.reasons)


@pytest.fixture
def strict(run, tmp_path) -> str:
    """A run with a view `strict`."""
    shutil.copytree(run, tmp_path / "run")
    # Pairs have 2 and their number: all but those of candidates 0 and 1.
    limits = {"registration": Bound(4.0, is_minimum=True)}
    url = str(tmp_path / "run")
    refilter(ObjectStore.open(url), "strict", Rules(limits, max_per_prompt=6))
    return url


def test_the_page_of_a_view_shows_its_pairs_its_limits_and_what_it_left_out(strict, tmp_path):
    url, whole = strict, collect_report(strict)
    report = collect_report(url, view="strict")
    assert (report.accepted, report.candidates) == (6, whole.candidates)
    assert report.rejected == whole.rejected + whole.accepted - 6
    facts = dict(report.facts)
    assert facts["view"] == "strict: registration>=4, at most 6 of a prompt"
    assert facts["fingerprint"] == dict(whole.facts)["fingerprint"]
    counts = {reason.label: reason.count for reason in report.reason_counts}
    assert counts == {"registration": whole.rejected + 2, "one too many of its prompt": 2}
    assert len(report.pairs) == 6
    assert "registration&gt;=4" in render_page(report)
    assert page_path(url, report.run_id, "strict").name == "report-strict.html"
    assert CliRunner().invoke(command, [url, "--view", "strict"]).exit_code == 0
    assert (tmp_path / "run" / "report-strict.html").exists()


def test_pairs_that_the_run_accepted_and_the_view_leaves_out_are_shown_with_why(strict):
    url, whole = strict, collect_report(strict)
    report = collect_report(url, view="strict", rejects=1000)
    accepted = {card.candidate: card for card in report.rejects if card.candidate in ids_of(whole)}
    assert len(accepted) == whole.accepted - report.accepted > 0
    assert {reason for card in accepted.values() for reason in card.failed} == {
        "registration",
        "one too many of its prompt",
    }
    assert all(card.pictures is not None for card in accepted.values())
    assert len(report.rejects) == report.rejected
    few = collect_report(url, view="strict", rejects=3)
    assert len(few.rejects) == 3
    page = render_page(few)
    assert "pairs that the view leaves out" in page
    assert "rejected by checks" not in page


def ids_of(report):
    return {card.candidate for card in report.pairs}


def test_the_licence_of_pairs_of_a_source_is_that_of_the_pairs(tmp_path):
    manifest = replace(
        tiny_run.make_manifest(),
        model={"id": "m", "licence": "apache-2.0"},
        settings={"source": {"kind": "folder"}},
    )
    rows = pa.table({"licence": ["CC-BY-NC-4.0", "unknown", "unknown"]})
    facts = dict(facts_of(manifest, [], totals([]), rows))
    assert facts["licence"] == "CC-BY-NC-4.0, unknown"
    assert facts["licence of the model"] == "apache-2.0"
