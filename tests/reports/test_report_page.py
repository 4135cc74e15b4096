from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest

from mfsynth.reports import render_page
from mfsynth.reports.content import Limit, limits_of, score_cells
from mfsynth.reports.page import duration


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
    assert "the check abstained on 3" in page


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
    limits = {"a": Limit(1.0, is_minimum=True), "b": Limit(1.0, is_minimum=False)}
    cells = score_cells({"a": 0.5, "b": 0.5, "c": 1234.5, "d": None}, limits)
    assert [cell.failed for cell in cells] == [True, False, False, False]
    assert [cell.text for cell in cells] == ["0.50", "0.50", "1234", "–"]


def test_thresholds_come_from_the_configured_checks():
    limits = limits_of(
        {
            "validity": {"min_valid_fraction": 0.5, "max_far_fraction": 0.005},
            "registration": {"min": 1.5},
            "flying_pixels": None,
        }
    )
    assert limits == {
        "valid_fraction": Limit(0.5, is_minimum=True),
        "far_fraction": Limit(0.005, is_minimum=False),
        "registration": Limit(1.5, is_minimum=True),
    }
