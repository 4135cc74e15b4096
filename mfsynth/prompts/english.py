"""The little English that filling templates needs: articles, lists, spaces, sentence capitals."""

from __future__ import annotations

import re
from collections.abc import Sequence

ARTICLE = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands for "a" or "an" until the next word is known."""

_ARTICLE_AND_WORD = re.compile(re.escape(ARTICLE) + r"\s*(?=(\w*))")
_AN_IN_SPITE_OF_CONSONANT = re.compile(r"(hour|honest|heir|8|11(?!\d)|18(?!\d))", re.IGNORECASE)
_A_IN_SPITE_OF_VOWEL = re.compile(r"(uni[fqtv]|us[aeiu]|uten|util|eu|one\b)", re.IGNORECASE)
_AN_LETTERS = "AEFHILMNORSX"


def indefinite_article(word: str) -> str:
    """The article, "a" or "an", by the sound that the word begins with."""
    if len(word) > 1 and word.isupper() and word.isalpha():
        return "an" if word[0] in _AN_LETTERS else "a"
    if _AN_IN_SPITE_OF_CONSONANT.match(word):
        return "an"
    if _A_IN_SPITE_OF_VOWEL.match(word):
        return "a"
    return "an" if word[:1].lower() in tuple("aeiou") else "a"


def enumerate_items(items: Sequence[str]) -> str:
    """Join at least one item as "a", "a and b", "a, b and c"."""
    if len(items) == 1:
        return items[0]
    return f"{', '.join(items[:-1])} and {items[-1]}"


def tidy(text: str) -> str:
    """Settle articles, and close the gaps that empty slots leave."""
    text = " ".join(text.split())
    text = _ARTICLE_AND_WORD.sub(lambda match: indefinite_article(match[1]) + " ", text)
    return re.sub(r"\s+([,.;:])", r"\1", text)


def capitalise(text: str) -> str:
    """Give each sentence its capital."""
    return re.sub(r"(^|[.!?] )(\w)", lambda match: match[1] + match[2].upper(), text)
