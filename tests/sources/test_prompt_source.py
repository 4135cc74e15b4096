"""Prompts are a source of texts without end."""

from __future__ import annotations

import pickle

import pytest

from mfsynth.prompts import load_library
from mfsynth.prompts.files import open_file
from mfsynth.sources.prompts import PromptItems


def test_a_prompt_is_an_item_of_text_alone_under_any_number():
    library = load_library("tabletop", seed=3)
    prompts = PromptItems(library)
    for index in (0, 7, 10**12):
        item = prompts[index]
        assert item.text == library.prompt(index).text
        assert (item.rgb, item.depth, item.intrinsics) == (None, None, None)
    assert pickle.loads(pickle.dumps(prompts))[7].text == prompts[7].text


def test_an_item_has_what_its_prompt_took_for_each_slot_that_offers_a_choice():
    library = load_library("tabletop", seed=3)
    prompts = PromptItems(library)
    assert set(prompts[0].slots) == {"objects", "colour", "shape", "table", "light", "view"}
    for index in range(50):
        item = prompts[index]
        things = zip(item.slots["colour"], item.slots["shape"], strict=True)
        assert all(f"{colour} {shape}" in item.text for colour, shape in things)
        (count,) = item.slots["objects"]
        assert count == f"{len(item.slots['shape'])} of object"
        (view,) = item.slots["view"]
        assert f"seen {view}" in item.text


def test_a_slot_that_this_prompt_does_not_have_took_nothing(tmp_path):
    path = tmp_path / "library.yaml"
    path.write_text(
        "templates: ['a {colour} cube', 'a ball in {light} light']\n"
        "slots: {colour: [red, blue], light: [dim, warm]}\n"
    )
    prompts = PromptItems(load_library(str(path)))
    taken = {tuple(len(texts) for texts in prompts[i].slots.values()) for i in range(20)}
    assert taken == {(1, 0), (0, 1)}


def test_prompts_of_a_file_have_no_slots(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a cup\n")
    assert PromptItems(open_file(str(path)))[0].slots == {}


def test_there_is_no_prompt_before_the_first():
    with pytest.raises(ValueError, match="at least 0"):
        PromptItems(load_library("tabletop"))[-1]
