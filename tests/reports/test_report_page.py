from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from conftest_run import EVIL

from mfsynth.geometry import DepthKind
from mfsynth.reports import render_page
from mfsynth.reports.content import ShardRow, SlotTable, failure_in_words, score_cells
from mfsynth.reports.histogram import draw_histogram
from mfsynth.reports.page import duration, page_that_fits
from mfsynth.reports.pictures import PAGE_BYTES, pictures_of
from mfsynth.shards.acceptance import ValueAcceptance
from mfsynth.shards.run_manifest import ScoreInfo


@pytest.fixture
def empty(report):
    return dataclasses.replace(
        report,
        candidates=0,
        accepted=0,
        rejected=0,
        quarantined=0,
        shards=0,
        seconds=0.0,
        pairs=(),
        rejects=(),
        quarantine=(),
        reason_counts=(),
        histograms=(),
    )


def test_the_page_is_well_formed(report):
    root = ElementTree.fromstring(render_page(report).encode())
    assert root.tag == "html"


def test_text_of_the_data_is_escaped_wherever_it_is_shown(report):
    page = render_page(report)
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp;") >= 8
    _, _, data = page.partition('id="data">')
    data, _, _ = data.partition("</script>")
    assert not {*data} & {*"<>&"}
    assert json.loads(data)["pairs"][0]["slots"] == {EVIL: [EVIL]}


def test_the_page_needs_nothing_from_outside(report):
    root = ElementTree.fromstring(render_page(report).encode())
    addresses = [
        value
        for element in root.iter()
        for name, value in element.attrib.items()
        if name in ("src", "href", "srcset", "action")
    ]
    assert len(addresses) > 8
    own = "data:image/(png|jpeg|webp);base64,|#"
    assert [address for address in addresses if not re.match(own, address)] == []
    assert "@import" not in render_page(report)


def test_a_browser_runs_the_script_of_the_page_and_no_other(report):
    page = render_page(report)
    root = ElementTree.fromstring(page.encode())
    policy = next(each.get("content") for each in root.iter("meta") if each.get("http-equiv"))
    for name in ("script", "style"):
        [text] = re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not [each for each in root.iter() if "style" in each.attrib]


def test_it_shows_the_counts_the_scores_and_the_reasons(report):
    page = render_page(report)
    assert "25 %" in page
    assert "registration 0.82 &lt; 1.50" in page
    assert "at least 1.5" in page
    assert "no thumbnail kept" in page
    assert "the check abstained on 3 of " in page


def test_a_sample_of_the_pairs_is_said_to_be_one(report):
    assert "A random sample of" not in render_page(report)
    many = dataclasses.replace(report, accepted=1000)
    assert "A random sample of 1 of 1000 accepted pairs" in render_page(many)


def test_a_run_without_a_committed_shard_has_a_page_too(empty):
    page = render_page(empty)
    ElementTree.fromstring(page.encode())
    assert "no committed candidate passed" in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.123, "0.12 s"),
        (3.14, "3.1 s"),
        (97.2, "97 s"),
        (119.9, "120 s"),
        (180, "3.0 min"),
        (7199, "120 min"),
        (360000, "100 h"),
    ],
)
def test_durations_are_told_in_the_unit_people_say(seconds, text):
    assert duration(seconds) == text


def test_scores_show_their_failure_and_abstention():
    scores = {
        "a": ScoreInfo("first", "higher", limit=1.0),
        "b": ScoreInfo("second", "lower", unit="px", limit=1.0),
        "c": ScoreInfo("c"),
        "d": ScoreInfo("d"),
    }
    cells = score_cells({"a": 0.5, "b": 0.5, "c": 1234.5, "d": None}, scores.__getitem__)
    assert [cell.label for cell in cells] == ["first", "second", "c", "d"]
    assert [cell.failed for cell in cells] == [True, False, False, False]
    assert [cell.text for cell in cells] == ["0.50", "0.50 px", "1234", "–"]
    assert [cell.value for cell in cells] == [0.5, 0.5, 1234.5, None]


def test_a_score_that_is_rejected_for_abstaining_is_shown_as_failed():
    cells = score_cells({"a": None, "b": None}, lambda name: ScoreInfo(name, limit=1.0), ["b"])
    assert [(cell.text, cell.failed) for cell in cells] == [("–", False), ("–", True)]


def test_small_scores_are_told_apart():
    # `far_fraction` is rejected above .005, `planarity` has no value above .03.
    scores = {"a": 0.0049, "b": 0.0062, "c": 0.0, "d": -0.0123, "e": -250.4}
    cells = score_cells(scores, lambda name: ScoreInfo(name))
    assert [cell.text for cell in cells] == ["0.0049", "0.0062", "0.00", "-0.012", "-250"]


@pytest.mark.parametrize(
    ("score", "value", "words"),
    [
        (ScoreInfo("sharp", "higher", limit=1.5), 0.823, "sharp 0.823 < 1.5"),
        (ScoreInfo("off", "lower", unit="px", limit=2.0), 12.345, "off 12.3 > 2 px"),
        # A near miss is told with enough digits.
        (ScoreInfo("sharp", "higher", limit=1.3), 1.2996, "sharp 1.2996 < 1.3"),
        (ScoreInfo("sharp", "higher", limit=1.5), None, "sharp: the check abstained"),
        # There is nothing to tell of a score that has no limit, or passes, as that of a depth map
        # with values that are no depth does.
        (ScoreInfo("sharp", "higher", limit=1.5), 2.0, "sharp"),
        (ScoreInfo("sharp"), 2.0, "sharp"),
    ],
)
def test_a_failure_is_told_with_its_score_and_limit(score, value, words):
    assert failure_in_words(score, value) == words


def test_pictures_are_as_small_as_the_room_for_them_asks(depth):
    sample = SimpleNamespace(
        rgb=np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8),
        depth=cv2.resize(depth, (200, 150)),
        depth_kind=DepthKind.METRIC_Z,
        intrinsics=None,
    )
    shown = []
    for room in (10**7, 50_000, 10):
        found = pictures_of([sample] * 3, room)
        shown.append(found[0].shown)
        assert {each.shown for each in found} == {shown[-1]}
        assert sum(each.size for each in found) <= room or shown[-1] == (64, 48)
    assert shown[0] == (200, 150)
    assert shown[0] > shown[1] > shown[2]
    assert (found[0].width, found[0].height) == (200, 150)


def test_the_page_of_a_large_run_is_below_a_megabyte_and_a_half(report):
    pictures = dataclasses.replace(
        report.pairs[0].pictures, rgb_uri="x" * (PAGE_BYTES // 48), depth_uri="", depth=None
    )
    prompt = "a long text of a prompt, of which there are many " * 4
    pair = dataclasses.replace(
        report.pairs[0],
        pictures=pictures,
        prompt=prompt,
        reproduce=prompt,
        scores=report.pairs[0].scores * 8,
        slots={f"slot {number}": ("a value", "another one") for number in range(8)},
    )
    rng = np.random.default_rng(0)
    scores, keys = (
        rng.normal(size=10_000),
        [(kind, "k" * 60) for kind in ("tar", "index", "rejects")],
    )
    large = dataclasses.replace(
        report,
        pairs=(pair,) * 48,
        rejects=(dataclasses.replace(pair, pictures=None),) * 24,
        histograms=tuple(
            draw_histogram(f"{n}", ScoreInfo("a score", limit=0.0), scores, scores)
            for n in range(20)
        ),
        slots=tuple(
            SlotTable("a slot", (ValueAcceptance("a slot", "a value of it", 50, 100),) * 12, 99)
            for _ in range(12)
        ),
        shard_rows=tuple(
            ShardRow(n, 64, 99, "2026-01-01", "machine", tuple(keys)) for n in range(100)
        ),
        shards=1563,
    )
    assert len(render_page(large, links="../")) < 1_500_000
    # Twice as many pairs, of which pictures can't be smaller.
    pairs = tuple(dataclasses.replace(pair, candidate=number) for number in range(100))
    page = page_that_fits(dataclasses.replace(large, pairs=pairs, left_out=7), links="../").decode()
    assert 1_200_000 < len(page.encode()) < 1_500_000
    shown = re.findall(r'aria-label="candidate (\d+), look', page.partition('id="rejects"')[0])
    assert shown == sorted(shown, key=int)
    assert int(shown[-1]) > 90
    assert f"{107 - len(shown)} more were asked for: a page below 1.5 MB has no room" in page
