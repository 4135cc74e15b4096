from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest

from mfsynth.reports import render_page
from mfsynth.reports.content import failure_in_words, score_cells
from mfsynth.reports.page import duration
from mfsynth.shards.commits import ScoreInfo


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
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp;") >= 8


def test_the_page_needs_nothing_from_outside(report):
    root = ElementTree.fromstring(render_page(report).encode())
    addresses = [
        value
        for element in root.iter()
        for name, value in element.attrib.items()
        if name in ("src", "href", "srcset", "action")
    ]
    assert addresses
    assert all(re.match("data:image/(png|jpeg);base64,", address) for address in addresses)
    assert "@import" not in render_page(report)
    assert not list(root.iter("script"))


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
        "a": ScoreInfo("first", "higher", note="a note", limit=1.0),
        "b": ScoreInfo("second", "lower", unit="px", limit=1.0),
        "c": ScoreInfo("c"),
        "d": ScoreInfo("d"),
    }
    cells = score_cells({"a": 0.5, "b": 0.5, "c": 1234.5, "d": None}, scores.__getitem__)
    assert [cell.label for cell in cells] == ["first", "second", "c", "d"]
    assert [cell.failed for cell in cells] == [True, False, False, False]
    assert [cell.text for cell in cells] == ["0.50", "0.50 px", "1234", "–"]
    assert [cell.note for cell in cells] == ["a note", "b", "c", "d"]


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
