from __future__ import annotations

import re
from collections import Counter

import pytest

from mfsynth.config.resources import resource_names
from mfsynth.prompts import load_library
from mfsynth.prompts.coverage import coverage

LIBRARIES = (
    "bin_picking",
    "household",
    "kitchen",
    "outdoor",
    "tabletop",
    "tabletop_anywhere",
    "tabletop_rooms",
    "tabletop_shapes",
    "warehouse",
)

COLOURS = {"red", "orange", "yellow", "green", "blue", "purple", "white", "black"}
SHAPES = {"cube", "ball", "cylinder", "cone", "bowl", "mug"}


def test_the_libraries_are_there() -> None:
    assert resource_names("prompts") == LIBRARIES


def test_tabletop_prompts_never_change() -> None:
    """They are in published runs: who changes them makes a new library."""
    library = load_library("tabletop")
    assert library.digest == "3094f7d3835c8380765d4887f52a5260ca2ecf1c902a23f1bb9483fb06d7a633"
    pinned = {
        0: "a green bowl and a black cube on a wooden table, bright light, seen from above",
        1: "a wooden table with a blue bowl in warm light, seen from above",
        2: "seen from above, a purple cone and a red cylinder on a grey table in bright light",
        10**12: "a dark table with a green cylinder and a purple cone in bright light, "
        "seen from above",
    }
    assert {candidate: library.prompt(candidate).text for candidate in pinned} == pinned
    assert library.prompt(0).prompt_id == "ab851422f5d7b730"
    assert load_library("tabletop", seed=7).prompt(0).text == (
        "a white cone, a green cylinder and a yellow cone on a wooden table in dim light, "
        "seen from the front"
    )


def test_tabletop_slots_are_what_the_simulator_builds() -> None:
    library = load_library("tabletop")
    counts: Counter[int] = Counter()
    for candidate in range(1500):
        prompt = library.prompt(candidate)
        slots = prompt.slots
        assert set(slots) == {"objects", "table", "light", "view"}
        assert slots["table"] in {"wooden", "white", "grey", "dark"}
        assert slots["light"] in {"bright", "dim", "warm"}
        assert slots["view"] in {"from above", "from the front"}
        objects = slots["objects"]
        assert isinstance(objects, list)
        assert all(set(thing) == {"colour", "shape"} for thing in objects)
        assert all(thing["colour"] in COLOURS and thing["shape"] in SHAPES for thing in objects)
        assert len({(thing["colour"], thing["shape"]) for thing in objects}) == len(objects)
        counts[len(objects)] += 1
        for thing in objects:
            article = "an" if thing["colour"] == "orange" else "a"
            assert f"{article} {thing['colour']} {thing['shape']}" in prompt.text
        assert re.fullmatch(r"[a-z, ]+", prompt.text)
        assert len(prompt.text.split()) <= 30
    assert [counts[number] / 1500 for number in (1, 2, 3)] == pytest.approx(
        [0.4, 0.4, 0.2], abs=0.04
    )


def test_tabletop_size_is_that_of_its_arithmetic() -> None:
    objects = 48 + 48 * 47 + 48 * 47 * 46
    assert load_library("tabletop").size == 4 * objects * 4 * 3 * 2


def test_tabletop_shapes_are_few_plain_things() -> None:
    library = load_library("tabletop_shapes")
    things = 40 + 40 * 39 + 40 * 39 * 38
    assert library.size == 2 * things * 4 * 2 * 2
    for candidate in range(300):
        prompt = library.prompt(candidate)
        assert set(prompt.slots) == {"objects", "table", "light", "view"}
        objects = prompt.slots["objects"]
        assert isinstance(objects, list)
        assert 1 <= len(objects) <= 3
        assert all(set(thing) == {"colour", "shape"} for thing in objects)
        assert len(prompt.text.split()) <= 24


@pytest.mark.parametrize("name", LIBRARIES)
def test_prompts_are_clean_english(name: str) -> None:
    library = load_library(name)
    for candidate in range(300):
        prompt = library.prompt(candidate)
        text = prompt.text
        assert re.fullmatch(r"[0-9a-z]{16}", prompt.prompt_id)
        assert text.isascii()
        assert not re.search(r"[{}\ufffc]|  | [,.;]|[,;] ?[,;.]|\bAn? an?\b", text)
        assert not re.search(r"\ba [aeiou](?!ne\b|u|ni|sed)", text), text
        assert len(text.split()) <= 80
        if not name.startswith("tabletop"):
            assert text[0].isupper()
            assert text.endswith(".")


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_option_is_reached_and_no_slot_lies_idle(name: str) -> None:
    library = load_library(name)
    assert [slot.missing for slot in coverage(library, range(2500)) if slot.missing] == []


@pytest.mark.parametrize(
    "name", sorted(set(LIBRARIES) - {"tabletop", "tabletop_anywhere", "tabletop_shapes"})
)
def test_spaces_are_large_and_prompts_of_a_run_are_different(name: str) -> None:
    library = load_library(name)
    assert library.size > 10**9
    assert len({library.prompt(candidate).prompt_id for candidate in range(500)}) >= 495
