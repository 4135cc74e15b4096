from __future__ import annotations

import pytest

from mfsynth.prompts.english import (
    ARTICLE,
    capitalise,
    enumerate_items,
    indefinite_article,
    tidy,
)


@pytest.mark.parametrize(
    ("word", "article"),
    [
        ("red", "a"),
        ("orange", "an"),
        ("umbrella", "an"),
        ("used", "a"),
        ("uniform", "a"),
        ("unopened", "an"),
        ("one", "a"),
        ("onion", "an"),
        ("hour", "an"),
        ("LED", "an"),
        ("USB", "a"),
        ("8", "an"),
        ("80", "an"),
        ("11", "an"),
        ("18", "an"),
        ("110", "a"),
        ("1", "a"),
        ("European", "a"),
        ("A4", "an"),
    ],
)
def test_articles_follow_the_sound_of_the_next_word(word: str, article: str) -> None:
    assert indefinite_article(word) == article


def test_an_article_looks_past_an_empty_slot() -> None:
    assert tidy(f"{ARTICLE}  orange mug and {ARTICLE} red one") == "an orange mug and a red one"


def test_gaps_that_empty_slots_leave_are_closed() -> None:
    assert tidy(" a mug  , in  light .") == "a mug, in light."


def test_lists_read_as_english() -> None:
    assert enumerate_items(["x"]) == "x"
    assert enumerate_items(["x", "y"]) == "x and y"
    assert enumerate_items(["x", "y", "z"]) == "x, y and z"


def test_sentences_get_capitals() -> None:
    assert capitalise("a mug. on it. 1.5 m") == "A mug. On it. 1.5 m"
