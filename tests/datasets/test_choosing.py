"""Filters, selections and splits of a data set."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset
from mfsynth.datasets.conditions import matching
from mfsynth.errors import MfsynthError

INDEX = pa.concat_tables(
    [
        pa.table(
            {
                "check_registration": pa.array([1.0, 3.0, None, float("nan")], pa.float64()),
                "slot_objects": [["mug"], ["mug", "cup"], [], ["cup"]],
                "prompt": ["a mug", "the mugs", "x", 'it\'s "y"'],
                "candidate": [0, 1, 2, 3],
            }
        )
    ]
    * 2
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("registration > 2", [1]),
        ("check_registration >= 1 and 'mug' in objects", [0, 1]),
        ("'mug' in objects and not 'cup' in objects", [0]),
        ("'cup' not in slot_objects", [0, 2]),
        ("registration is None", [2, 3]),
        ("registration is not None or candidate == 3", [0, 1, 3]),
        ("0 < candidate <= 2", [1, 2]),
        ("candidate in [0, 3]", [0, 3]),
        ("candidate not in (0, 3)", [1, 2]),
        ("'mug' in prompt", [0, 1]),
        ("prompt == 'it\\'s \"y\"'", [3]),
        ("registration > -1.5", [0, 1]),
        ("not registration > 2", [0]),
        ("registration not in [1.0]", [1]),
        ("not (registration > 2 and candidate < 9)", [0]),
        ("not (registration > 2 and candidate > 2)", [0, 1, 2]),
        ("registration > 2 or candidate == 2", [1, 2]),
        ("2 > 1", [0, 1, 2, 3]),
        ("3 in [1, 2]", []),
        ("1 is None or 1 in [1]", [0, 1, 2, 3]),
    ],
)
def test_a_condition_finds_its_rows(condition, rows):
    found = np.flatnonzero(matching(INDEX, condition))
    assert found.tolist() == [*rows, *(row + 4 for row in rows)]
    # A part of a table begins in the middle of its arrays.
    part = np.flatnonzero(matching(INDEX.slice(1, 6), condition))
    assert part.tolist() == [row - 1 for row in found.tolist() if 1 <= row < 7]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("registration >", "is no condition"),
        ("regist > 1", "no column 'regist'; did you mean registration?"),
        ("__import__('os').system('true')", "can't take"),
        ("prompt.upper() == 'X'", "can't take"),
        ("registration", "can't take 'registration'"),
        ("[x for x in prompt]", "can't take"),
        ("candidate + 1 > 2", "can't take"),
        ("registration > 'high'", "has no kernel"),
        ("objects == 'mug'", "a list is compared; write 'mug' in objects"),
        ("'mug' in candidate", "is for texts and lists"),
        ("2 in objects", "stands a text"),
        ("not " * 5000 + "candidate > 1", ""),
        ("lambda: 1", "can't take"),
        ("candidate > 99999999999999999999", ""),
        ("candidate in [99999999999999999999]", ""),
        ("prompt == '\\ud800'", ""),
        (pc.field("candidate") > 1, "give a text, such as"),
    ],
)
def test_what_is_no_condition_is_one_line_and_nothing_is_executed(condition, said):
    with pytest.raises(MfsynthError) as error:
        matching(INDEX, condition)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 600


def test_filters_and_selections_narrow_each_other(run_store):
    dataset = RGBDDataset(run_store.url)
    some = dataset.filter("registration >= 4").filter("candidate < 9")
    assert [sample.candidate for sample in some] == [2, 3, 6, 7, 8]
    assert [sample.candidate for sample in some.select([4, 0])] == [8, 2]
    assert some.index.column("candidate").to_pylist() == [2, 3, 6, 7, 8]
    assert repr(some) == f"RGBDDataset({run_store.url}: 5 pairs of 8)"
    assert repr(dataset) == f"RGBDDataset({run_store.url}: 8 pairs)"
    assert len(dataset.filter("valid_fraction is None")) == 0
    with pytest.raises(IndexError, match="0 to 4"):
        some.select([5])
    for mask in (np.array([True, False]), [0.5]):
        with pytest.raises(MfsynthError, match=r"of a mask those are np\.flatnonzero"):
            some.select(mask)
    assert len({dataset.digest, some.digest, some.select([1, 0]).digest}) == 3
    assert dataset.select([0, 1]).digest != dataset.select([2, 3]).digest
    assert some.digest == RGBDDataset(run_store.url).filter("2 <= candidate < 9").digest


def test_a_split_shares_no_prompt_and_stays_when_the_run_grows(tmp_path):
    store = tiny_run.make_run(str(tmp_path / "run"), 6)
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    small = tiny_run.make_run(str(tmp_path / "small"), 3)
    ids = [
        {
            name: {sample.sample_id for sample in part}
            for name, part in RGBDDataset(each.url).split(shares).items()
        }
        for each in (small, store)
    ]
    assert all(ids[0][name] <= ids[1][name] for name in shares)
    assert sum(map(len, ids[1].values())) == len(RGBDDataset(store.url)) == 20
    assert sum(len(part) for part in RGBDDataset(store.url).split({"some": 0.3}).values()) < 20


def test_each_part_of_a_split_has_about_its_share():
    from mfsynth.datasets.splits import split_rows

    index = pa.table({"prompt_id": [f"{i // 2:016x}" for i in range(4000)]})
    parts = split_rows(index, {"a": 0.7, "b": 0.3}, "prompt_id")
    assert len(parts["a"]) == pytest.approx(2800, rel=0.05)
    assert len(parts["a"]) + len(parts["b"]) == 4000
    assert not {*parts["a"] // 2} & {*parts["b"] // 2}


@pytest.mark.parametrize(
    ("shares", "by", "said"),
    [
        ({"a": 0.7, "b": 0.7}, "prompt_id", "come to at most 1"),
        ({"a": -0.1}, "prompt_id", "positive"),
        ({"a": float("nan")}, "prompt_id", "positive"),
        ({}, "prompt_id", "positive"),
        ({"a": "0.5"}, "prompt_id", "positive"),
        ({"a": True}, "prompt_id", "positive"),
        ({"a": 1}, "slot_view", "is a list"),
        ({"a": 1}, "prompts", "no column 'prompts'"),
    ],
)
def test_a_split_that_is_none_is_one_line(run_store, shares, by, said):
    with pytest.raises(MfsynthError, match=said):
        RGBDDataset(run_store.url).split(shares, by)
