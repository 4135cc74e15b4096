"""Prompts are a source of texts without end."""

from __future__ import annotations

import pickle

import pytest

from mfsynth.prompts import load_library
from mfsynth.sources.prompts import PromptItems


def test_a_prompt_is_an_item_of_text_alone_under_any_number():
    library = load_library("tabletop", seed=3)
    prompts = PromptItems(library)
    for index in (0, 7, 10**12):
        item = prompts[index]
        assert item.text == library.prompt(index).text
        assert (item.rgb, item.depth, item.intrinsics) == (None, None, None)
    assert pickle.loads(pickle.dumps(prompts))[7].text == prompts[7].text


def test_there_is_no_prompt_before_the_first():
    with pytest.raises(ValueError, match="at least 0"):
        PromptItems(load_library("tabletop"))[-1]
