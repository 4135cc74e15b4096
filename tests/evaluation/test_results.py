from __future__ import annotations

import dataclasses
import json

import pytest

from mfsynth.evaluation.depth import DepthScore
from mfsynth.evaluation.results import Result, to_json, to_markdown


def result(data_set, protocol, alignment, images, expected=None, abs_rel=0.05):
    return Result(
        data_set=data_set,
        score=DepthScore(protocol, alignment, images, abs_rel, 0.9, 0.95, 0.99, 12.345),
        protocol_images=expected,
        model="embedded",
        revision="0123456789abcdef",
        steps=10,
        seed=0,
        input_size=(64, 96),
        truth_sizes=((480, 640), (968, 1296)),
    )


MIXED = [
    result("nyu_v2", "marigold/nyu_v2", "affine", 654, 654),
    result("nyu_v2", "marigold/nyu_v2", "scale", 654, 654),
    result("a", "plain", "scale", 7),
    result("b|c", "plain", "scale", 8, abs_rel=0.25),
]


def rows_of(table):
    lines = [line for line in table.splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_figures_of_different_protocols_or_alignments_never_share_a_table():
    page = to_markdown(MIXED)
    parts = page.split("\n## ")[1:]
    assert [part.splitlines()[0] for part in parts] == [
        "Protocol marigold/nyu_v2, affine alignment",
        "Protocol marigold/nyu_v2, scale alignment",
        "Protocol plain, scale alignment",
    ]
    assert [len(rows_of(part)) for part in parts] == [1, 1, 2]
    assert "b\\|c" in page


def test_a_model_that_is_scored_against_a_model_is_told_of_below_the_table():
    given = dataclasses.replace(MIXED[2], truth_by="the model someone/else")
    page = to_markdown([given, MIXED[3]])
    assert page.endswith(
        "\n\na: its depth was made by the model someone/else. The figures say how far the two "
        "agree, not how right either is.\n"
    )
    assert "its depth was made by" not in to_markdown(MIXED)


def test_a_row_has_all_that_its_figures_depend_on():
    (row,) = rows_of(to_markdown(MIXED[:1]))
    assert row == {
        "data set": "nyu_v2",
        "protocol": "marigold/nyu_v2",
        "alignment": "affine",
        "images": "654",
        "AbsRel ↓": "0.0500",
        "δ1 ↑": "0.9000",
        "δ2 ↑": "0.9500",
        "δ3 ↑": "0.9900",
        "SIlog ↓": "12.35",
        "model": "embedded",
        "revision": "0123456789ab",
        "steps": "10",
        "input": "96×64",
        "ground truth": "640×480, 1296×968",
    }


@pytest.mark.parametrize(
    ("images", "expected", "shown", "complete"),
    [
        (654, 654, "654", True),
        (3, 654, "3, not the protocol's 654", False),
        (3, None, "3", None),
    ],
)
def test_a_set_that_is_not_the_protocols_says_so(images, expected, shown, complete):
    one = result("nyu_v2", "marigold/nyu_v2", "affine", images, expected)
    assert rows_of(to_markdown([one]))[0]["images"] == shown
    assert json.loads(to_json([one]))[0]["complete"] is complete


def test_json_has_the_figures_unrounded_and_the_whole_revision():
    row = json.loads(to_json(MIXED))[3]
    assert row["data_set"] == "b|c"
    assert (row["protocol"], row["alignment"], row["images"]) == ("plain", "scale", 8)
    assert (row["abs_rel"], row["silog"]) == (0.25, 12.345)
    assert row["revision"] == "0123456789abcdef"
    assert (row["model"], row["steps"], row["seed"]) == ("embedded", 10, 0)
    assert row["input_size"] == [64, 96]
