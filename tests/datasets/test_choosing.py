"""Filters, selections and splits of a data set."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tiny_run

from mfsynth.datasets import RGBDDataset, open_dataset
from mfsynth.datasets.conditions import matching
from mfsynth.datasets.mapped import Index
from mfsynth.datasets.splits import split_rows
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
        ("candidate in []", []),
        ("prompt in ()", []),
        ("registration not in []", [0, 1]),
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
        (1, "give a text, such as"),
        (pc.field("candidates") > 1, "No match for FieldRef"),
        (pc.field("candidate") > "high", "has no kernel"),
        (pc.field("candidate"), "gives int64, not true or false"),
    ],
)
def test_what_is_no_condition_is_one_line_and_nothing_is_executed(condition, said):
    with pytest.raises(MfsynthError) as error:
        matching(INDEX, condition)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        (pc.field("candidate") * 2 > pc.field("candidate") + 1, [2, 3]),
        (pc.field("check_registration") > 2, [1]),
        (~(pc.field("check_registration") > 2), [0, 3]),
        (pc.match_substring(pc.field("prompt"), "mug") & (pc.field("candidate") > 0), [1]),
    ],
)
def test_an_expression_of_pyarrow_is_a_condition(expression, rows):
    found = np.flatnonzero(matching(INDEX, expression))
    assert found.tolist() == [*rows, *(row + 4 for row in rows)]


def test_filters_and_selections_narrow_each_other(run_store):
    dataset = RGBDDataset(run_store.url)
    some = dataset.filter("registration >= 4").filter("candidate < 9")
    assert [sample.candidate for sample in some] == [2, 3, 6, 7, 8]
    assert [sample.candidate for sample in some.select([4, 0])] == [8, 2]
    assert some.index.column("candidate").to_pylist() == [2, 3, 6, 7, 8]
    assert repr(some) == f"RGBDDataset({run_store.url}: 5 pairs of 8)"
    assert repr(dataset) == f"RGBDDataset({run_store.url}: 8 pairs)"
    assert [s.candidate for s in some.filter(pc.field("candidate") * 2 > 10)] == [6, 7, 8]
    assert len(dataset.filter("valid_fraction is None")) == 0
    with pytest.raises(IndexError, match="0 to 4"):
        some.select([5])
    for read in (dataset.load, some.load, open_dataset({run_store.url: 1}).load):
        for number in (-1, 8, 10**6):
            with pytest.raises(IndexError, match=f"no sample {number}: "):
                read([0, number])
    for read in (dataset.run_of, dataset.with_files):
        with pytest.raises(IndexError, match="no sample -1: "):
            read(-1)
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
    index = pa.table({"prompt_id": [f"{i // 2:016x}" for i in range(4000)]})
    parts = split_rows(index, {"a": 0.7, "b": 0.3}, "prompt_id")
    assert len(parts["a"]) == pytest.approx(2800, rel=0.05)
    assert len(parts["a"]) + len(parts["b"]) == 4000
    assert not {*parts["a"] // 2} & {*parts["b"] // 2}


def with_columns(dataset, **columns):
    table = dataset._rows.table
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    dataset._rows = Index(table)
    return dataset


HALVES = {"a": 0.5, "b": 0.5}


def values_by_part(dataset, column, **how):
    return [
        [*part.index.column(column).to_pylist()] for part in dataset.split(HALVES, **how).values()
    ]


def test_what_was_made_of_one_item_or_episode_is_in_one_part(tmp_path):
    """Whatever their prompts are: each pair of the tiny run has one of its own."""
    dataset = RGBDDataset(tiny_run.make_run(str(tmp_path / "run"), 8).url)
    alone = dataset.split(HALVES)
    assert all(map(len, alone.values()))
    # Three of an item, as `copies: 3` makes them; the first 12 are frames, two items an episode.
    sources = [f"{i // 3}.png" for i in range(len(dataset))]
    episodes = [f"walk {i // 6}" if i < 12 else None for i in range(len(dataset))]
    with_columns(dataset, source=sources, episode=episodes)
    first, second = values_by_part(dataset, "source")
    assert first
    assert second
    assert not {*first} & {*second}
    first, second = values_by_part(dataset, "episode")
    assert not {*first} & {*second} - {None}
    # Of a job without episodes, and of a run of prompts beside it.
    plain = [None if i < 14 else value for i, value in enumerate(sources)]
    others = RGBDDataset(tmp_path / "run")
    with_columns(others, source=plain, episode=[None] * len(others))
    for name, part in others.select(range(14)).split(HALVES).items():
        assert part.digest == dataset.select(range(14)).split(HALVES, by="prompt_id")[name].digest
        kept = alone[name].filter("candidate < 26")
        assert {*part.index["sample_id"].to_pylist()} == {*kept.index["sample_id"].to_pylist()}
    first, second = values_by_part(others.select(range(14, 28)), "source")
    assert not {*first} & {*second}


def test_views_of_one_scene_are_in_one_part_whatever_their_items_are_called(tmp_path):
    dataset = RGBDDataset(tiny_run.make_run(str(tmp_path / "run"), 8).url)
    # The last are of a run whose source says nothing of scenes.
    scenes = [f"scene {i // 2}" if i < 20 else None for i in range(len(dataset))]
    sources = [f"{i}.png" if i < 20 else f"item {i // 2}" for i in range(len(dataset))]
    with_columns(dataset, scene=scenes, source=sources, episode=sources)
    for column in ("scene", "source"):
        first, second = values_by_part(dataset, column)
        assert first
        assert second
        assert not {*first} & {*second} - {None}
    first, second = values_by_part(dataset, "scene", by="source")
    assert {*first} & {*second} - {None}


def test_a_pair_without_a_value_goes_by_itself(tmp_path):
    dataset = RGBDDataset(tiny_run.make_run(str(tmp_path / "run"), 8).url)
    room = ["kitchen" if i % 2 else None for i in range(len(dataset))]
    with_columns(dataset, room=room, number=[None if i % 2 else float("nan") for i in range(28)])
    first, second = values_by_part(dataset, "room", by="room")
    assert ("kitchen" in first) != ("kitchen" in second)
    assert None in first
    assert None in second
    by_number, by_id = (dataset.split(HALVES, by=name) for name in ("number", "sample_id"))
    assert all(by_number[name].digest == by_id[name].digest for name in HALVES)


def test_no_column_is_copied_but_the_one_that_is_asked_for(run_store, monkeypatch):
    some = RGBDDataset(run_store.url).select([5, 1, 2])
    monkeypatch.setattr(RGBDDataset, "index", property(lambda _: pytest.fail("all are copied")))
    assert [sample.candidate for sample in some.filter("registration > 3.5")] == [7, 2]
    assert sum(map(len, some.split(HALVES).values())) == 3


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
